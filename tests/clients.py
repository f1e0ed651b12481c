"""A WebRTC client on aiortc that behaves as a page does."""

import asyncio
import fractions
import json
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import aiohttp
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from capacity.addresses import LOOPBACK, offered

RATE = 48000
FRAME = 960


def loopback_candidates() -> AbstractContextManager[None]:
    """Offer 127.0.0.1 alone. Several may be inside at a time."""
    return offered([LOOPBACK])


class ToneTrack(MediaStreamTrack):
    """A sine of `frequency` Hz, 20 ms frames in real time."""

    kind = "audio"

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency
        self._count = 0
        self._begin = 0.0

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if not self._count:
            self._begin = time.monotonic()
        await asyncio.sleep(max(0.0, self._begin + self._count * 0.02 - time.monotonic()))
        at = np.arange(self._count * FRAME, (self._count + 1) * FRAME)
        wave = (np.sin(2 * np.pi * self.frequency * at / RATE) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._count * FRAME
        frame.time_base = fractions.Fraction(1, RATE)
        self._count += 1
        return frame


class PictureTrack(MediaStreamTrack):
    """A grey picture of 320 x 240 with a white left half, 15 frames a second in real time.

    The brightness of the right half counts the frames: `shade` tells which one a picture is, modulo
    `SHADES`. `count` is the number of frames so far.
    """

    kind = "video"
    SHADES = 8
    STEP = 30

    def __init__(self, fps: float = 15) -> None:
        super().__init__()
        self._fps = fps
        self.count = 0
        self._begin = 0.0

    async def recv(self) -> av.VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if not self.count:
            self._begin = time.monotonic()
        await asyncio.sleep(max(0.0, self._begin + self.count / self._fps - time.monotonic()))
        pixels = np.full((240, 320, 3), self.count % self.SHADES * self.STEP, np.uint8)
        pixels[:, :160] = 255
        frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
        frame.pts = round(self.count * 90000 / self._fps)
        frame.time_base = fractions.Fraction(1, 90000)
        self.count += 1
        return frame

    @classmethod
    def shade(cls, pixels: np.ndarray) -> int:
        """The number of the frame that `pixels` shows."""
        return round(float(pixels[60:180, 200:280].mean()) / cls.STEP) % cls.SHADES


class AiortcClient:
    """Calls a stream at `url`, plays a tone and keeps the samples and messages that come back.

    `loopback` says where the workers are: on this machine's loopback, or at addresses of their own.
    `kinds` are the media offered, `direction` is that of the offer; the pictures that come back are
    kept as arrays of blue, green, red.
    """

    def __init__(
        self,
        url: str,
        frequency: float = 440.0,
        webrtc_id: str | None = None,
        data_channel: bool = True,
        loopback: bool = True,
        kinds: Sequence[str] = ("audio",),
        direction: str = "sendrecv",
    ) -> None:
        self.url = url
        self.webrtc_id = webrtc_id or uuid.uuid4().hex
        self.data_channel = data_channel
        self.loopback = loopback
        self.rate = RATE
        self.samples: list[np.ndarray] = []
        self.arrivals: list[float] = []
        self.messages: list[dict[str, Any]] = []
        self.channel: Any = None
        self.kinds = kinds
        self.direction = direction
        self.tone = ToneTrack(frequency)
        self.picture = PictureTrack()
        self.pictures: list[np.ndarray] = []
        self.picture_arrivals: list[float] = []
        self.token = ""
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._tasks: list[asyncio.Task[None]] = []

    async def create_offer(self) -> dict[str, str]:
        """The body of `POST /webrtc/offer`, with all candidates in its SDP."""
        if self.data_channel:
            self.channel = self.pc.createDataChannel("text")
            self.channel.on("message", lambda text: self.messages.append(json.loads(text)))
        tracks = {"audio": self.tone, "video": self.picture}
        for kind in self.kinds:
            track = kind if self.direction == "recvonly" else tracks[kind]
            self.pc.addTransceiver(track, self.direction)
        self.pc.on("track", self._listen)
        with loopback_candidates() if self.loopback else nullcontext():
            await self.pc.setLocalDescription(await self.pc.createOffer())
        sdp = self.pc.localDescription.sdp
        return {"sdp": sdp, "type": "offer", "webrtc_id": self.webrtc_id}

    async def accept(self, answer: dict[str, Any], timeout: float = 15) -> None:
        """Take the answer and wait until media can flow."""
        await self.pc.setRemoteDescription(
            RTCSessionDescription(sdp=answer["sdp"], type=answer["type"])
        )
        await self.wait_for_state("connected", timeout=timeout)

    async def connect(self, timeout: float = 15, token: str | None = None) -> None:
        """Offer, answer and media; AssertionError with the answer's body when it is refused.

        With the `token` of another client of this id its place is taken; `token` is then ours.
        """
        body = await self.create_offer()
        headers = {} if token is None else {"Resume-Token": token}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + "/webrtc/offer", json=body, headers=headers) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            self.token = response.headers["Resume-Token"]
        await self.accept(answer, timeout)

    async def wait_for_state(self, *states: str, timeout: float = 15) -> None:
        async with asyncio.timeout(timeout):
            while self.pc.connectionState not in states:
                await asyncio.sleep(0.02)

    async def wait_for_message(self, type: str, timeout: float = 10) -> dict[str, Any]:
        """The first control message of this type."""
        async with asyncio.timeout(timeout):
            while True:
                for message in self.messages:
                    if message["type"] == type:
                        return message
                await asyncio.sleep(0.02)

    async def hear(self, seconds: float, timeout: float = 10) -> None:
        """Wait until that much more audio has come."""
        begin = len(self.samples)
        async with asyncio.timeout(timeout):
            while sum(map(len, self.samples[begin:])) < seconds * self.rate:
                await asyncio.sleep(0.02)

    def samples_since(self, seconds: float) -> int:
        """How many samples arrived within the last `seconds`."""
        since = time.monotonic() - seconds
        return sum(
            len(samples)
            for samples, arrival in zip(self.samples, self.arrivals, strict=True)
            if arrival >= since
        )

    async def packets_lost(self) -> int:
        """Packets of the server's audio that RTP sequence numbers show to be missing."""
        report = await self.pc.getStats()
        return sum(s.packetsLost for s in report.values() if s.type == "inbound-rtp")

    def _listen(self, track: MediaStreamTrack) -> None:
        keep = self._keep if track.kind == "audio" else self._keep_pictures
        self._tasks.append(asyncio.create_task(keep(track)))

    async def _keep(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.AudioFrame)
            samples = frame.to_ndarray().reshape(-1)[:: len(frame.layout.channels)]
            self.rate = frame.sample_rate
            self.samples.append(samples)
            self.arrivals.append(time.monotonic())

    async def _keep_pictures(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame)
            self.pictures.append(frame.to_ndarray(format="bgr24"))
            self.picture_arrivals.append(time.monotonic())

    async def wait_for_pictures(self, count: int, timeout: float = 10) -> list[np.ndarray]:
        """The first `count` pictures."""
        async with asyncio.timeout(timeout):
            while len(self.pictures) < count:
                await asyncio.sleep(0.02)
        return self.pictures[:count]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pc.close()
