"""A page in Chromium whose microphone plays a recording, and what can be heard on it."""

import uuid
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Page

from tests.browser import browsing

RATE = 48000
BLOCK = 256
"""Samples of one level."""

_CONNECT = """async ([path, id]) => {
  const pc = new RTCPeerConnection();
  const call = window.call = {pc, messages: []};
  const post = (body) => fetch(path + "/webrtc/offer", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({webrtc_id: id, ...body}),
  }).then((response) => response.json());
  const channel = pc.createDataChannel("text");
  channel.onmessage = (event) => call.messages.push(JSON.parse(event.data));
  const {sender} = pc.addTransceiver("audio", {direction: "sendrecv"});
  call.sender = sender;
  pc.ontrack = ({track}) => {
    call.remote = new MediaStream([track]);
    const speaker = new Audio();  // Chromium decodes only what is played
    speaker.srcObject = call.remote;
    speaker.play();
  };
  pc.onicecandidate = ({candidate}) => {
    if (candidate) post({type: "ice-candidate", candidate: candidate.toJSON()});
  };
  const connected = new Promise((resolve) => {
    pc.onconnectionstatechange = () => pc.connectionState === "connected" && resolve();
  });
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await post({type: pc.localDescription.type, sdp: pc.localDescription.sdp});
  if (!answer.sdp) throw new Error(JSON.stringify(answer));
  await pc.setRemoteDescription(answer);
  await connected;
}"""

_SPEAK = """async ([rate, block, processing]) => {
  const {call} = window;
  const audio = {
    echoCancellation: processing, noiseSuppression: processing, autoGainControl: processing,
  };
  const microphone = await navigator.mediaDevices.getUserMedia({audio});
  const context = new AudioContext({sampleRate: rate, latencyHint: "interactive"});
  const code = `registerProcessor("levels", class extends AudioWorkletProcessor {
    constructor() { super(); this.count = 0; this.peaks = [0, 0]; this.levels = []; }
    process([inputs]) {
      for (const side of [0, 1])
        for (const sample of inputs[side] || [])
          this.peaks[side] = Math.max(this.peaks[side], Math.abs(sample));
      if ((this.count += 128) % ${block} === 0) {
        this.levels.push(this.peaks);
        this.peaks = [0, 0];
      }
      if (this.levels.length === 16) { this.port.postMessage(this.levels); this.levels = []; }
      return true;
    }
  });`;
  const url = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
  await context.audioWorklet.addModule(url);
  const meter = new AudioWorkletNode(context, "levels");
  const merger = context.createChannelMerger(2);
  call.levels = [];
  meter.port.onmessage = ({data}) => call.levels.push(...data);
  context.createMediaStreamSource(microphone).connect(merger, 0, 0);
  context.createMediaStreamSource(call.remote).connect(merger, 0, 1);
  merger.connect(meter).connect(context.destination);
  await call.sender.replaceTrack(microphone.getAudioTracks()[0]);
}"""


class TalkingPage:
    """A call of the page at `url`, a stream's prefix."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url
        self.id = uuid.uuid4().hex

    async def connect(self) -> None:
        """Connect, the microphone still closed."""
        root = "/".join(self._url.split("/")[:3])
        await self._page.goto(root + "/healthz")  # of the same origin, and without code of its own
        await self._page.evaluate(_CONNECT, [self._url.removeprefix(root), self.id])

    async def speak(self, *, processing: bool = True) -> None:
        """Open the microphone, which plays its recording from the beginning.

        Args:
            processing: let the browser cancel echo, suppress noise and control the gain.
        """
        await self._page.evaluate(_SPEAK, [RATE, BLOCK, processing])

    async def messages(self) -> list[dict[str, Any]]:
        """What came over the data channel."""
        messages: list[dict[str, Any]] = await self._page.evaluate("() => window.call.messages")
        return messages

    async def logs(self) -> list[str]:
        return [one["data"] for one in await self.messages() if one["type"] == "log"]

    async def levels(self) -> np.ndarray:
        """Peaks of microphone and speaker, of full scale, on one clock; shape (n, 2)."""
        return np.array(await self._page.evaluate("() => window.call.levels"))

    async def close(self) -> None:
        await self._page.evaluate("() => window.call.pc.close()")


@asynccontextmanager
async def microphone(samples: np.ndarray, directory: Path) -> AsyncIterator[Page]:
    """A page in a browser whose microphone plays `samples`, 48 kHz, once, and then is silent."""
    recording = directory / "microphone.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    async with browsing(f"{recording}%noloop") as browser:
        yield await browser.new_page()
