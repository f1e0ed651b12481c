"""Twilio as an application sees it: its webhook, and Media Streams played from a recording.

`fixtures/telephone/call.jsonl.gz` holds one message a line, as Twilio sends them: two utterances of
espeak-ng in one call, a pressed key, and the end. What Twilio answers to the application, its
marks, depends on what that sends: they are added here, and all messages numbered as they leave.
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

import asyncio
import base64
import gzip
import html
import json
import re
import time
from collections import deque
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from rayrtc import mulaw

CALL = Path(__file__).parent / "fixtures" / "telephone" / "call.jsonl.gz"
SPOKEN = ((30, 87), (207, 276))
"""The two utterances of `CALL`: their first frame of 20 ms, and the first one after them."""
FRAME = 160
"""Bytes of 20 ms."""


class Twilio:
    """One call, in real time.

    What the caller hears is kept in frames of the same clock as what they say: `heard[n]` was
    played while the n-th frame of the recording was sent.

    Args:
        stream_sid: name of the media stream, in place of the recorded one.
    """

    def __init__(self, stream_sid: str) -> None:
        self.sid = stream_sid
        self.heard: list[np.ndarray] = []
        self.received: list[dict[str, Any]] = []
        """Every message of the application, with the number of the frame that was sent then."""
        self.marks: list[str] = []
        """Names of the marks that were reported."""
        self.close_code: int | None = None
        self._buffer: deque[bytes | str] = deque()  # audio, and the names of marks behind it
        self._number = 0

    async def incoming(self, url: str, host: str) -> str:
        """Ask the webhook at `url` as the host of `host`; where it wants the call's stream."""
        form = {"CallSid": "CA" + "0" * 31 + "1", "From": "+15005550006", "To": "+15005550001"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + "/telephone/incoming", data=form, headers={"Host": host}) as answer,
        ):
            assert answer.status == 200
            (stream,) = re.findall(r'<Connect><Stream url="([^"]*)"', await answer.text())
            return html.unescape(stream)

    async def call(self, url: str) -> None:
        """Play the recording to the WebSocket at `url`, to its `stop` and the end of the socket."""
        with gzip.open(CALL, "rt", encoding="utf-8") as file:
            messages = [json.loads(line) for line in file]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url) as socket,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._listen(socket))
            begin = time.monotonic()
            for message in messages:
                if message["event"] == "media":
                    due = begin + len(self.heard) * 0.02
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._send(socket, message)
                if message["event"] == "media":
                    await self._play(socket)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> None:
        if "streamSid" in message:
            self._number += 1
            message = {**message, "sequenceNumber": str(self._number), "streamSid": self.sid}
        if message["event"] == "start":
            message["start"]["streamSid"] = self.sid
        await socket.send_str(json.dumps(message))

    async def _play(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Let the caller hear 20 ms, and report the marks that come before the next audio."""
        playing = self._buffer.popleft() if self._buffer else b"\xff" * FRAME
        assert isinstance(playing, bytes)
        self.heard.append(mulaw.decode(playing))
        await self._report(socket, until_audio=True)

    async def _report(
        self, socket: aiohttp.ClientWebSocketResponse, *, until_audio: bool = False
    ) -> None:
        while self._buffer:
            name = self._buffer[0]
            if isinstance(name, bytes):
                if until_audio:
                    return
                self._buffer.popleft()
                continue
            self._buffer.popleft()
            self.marks.append(name)
            await self._send(socket, {"event": "mark", "streamSid": "", "mark": {"name": name}})

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            message = json.loads(frame.data)
            self.received.append({**message, "frame": len(self.heard)})
            event = message.get("event")
            if event is not None:
                assert message["streamSid"] == self.sid, "Twilio would not know for whom it is"
            if event == "media":
                self._take(base64.b64decode(message["media"]["payload"], validate=True))
            elif event == "mark":
                self._buffer.append(message["mark"]["name"])
                await self._report(socket, until_audio=True)
            elif event == "clear":
                await self._report(socket)
            else:
                assert event is None, f"Twilio knows no {event}"
        self.close_code = socket.close_code

    def _take(self, audio: bytes) -> None:
        assert len(audio) % FRAME == 0
        self._buffer.extend(audio[at : at + FRAME] for at in range(0, len(audio), FRAME))

    def events(self, name: str) -> list[int]:
        """Numbers of the frames that were sent when these messages came."""
        return [message["frame"] for message in self.received if message.get("event") == name]

    @property
    def logs(self) -> list[str]:
        return [message["data"] for message in self.received if message.get("type") == "log"]

    def sounding(self) -> np.ndarray:
        """For each frame whether the caller heard something."""
        return np.array([np.abs(samples).max() > 1000 for samples in self.heard])
