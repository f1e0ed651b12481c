"""One caller that sends mu-law in JSON over a WebSocket, as FastRTC's clients do."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Mapping

import aiohttp
import numpy as np

from capacity.refusal import Refused, refusal
from capacity.sound import PACKETS
from rayrtc import mulaw

UNSENT_MAX = 50
"""Messages that wait for the connection to take them: a second of sound."""


def encode(samples: np.ndarray, rate: int) -> list[str]:
    """Mono int16 samples as messages of 20 ms."""
    size = rate // PACKETS
    pieces = (mulaw.encode(samples[at : at + size]) for at in range(0, len(samples), size))
    return [
        json.dumps({"event": "media", "media": {"payload": base64.b64encode(piece).decode()}})
        for piece in pieces
    ]


def decode(message: str) -> np.ndarray:
    """The samples of a message with audio."""
    return mulaw.decode(base64.b64decode(json.loads(message)["media"]["payload"]))


class SocketPeer:
    """A call over WebSocket, not compressed.

    Args:
        url: of the stream, `http://HOST:PORT/PATH`.
        headers: of the handshake's request.

    Attributes:
        received: time and text of each message with audio since `record` was called.
        offer_time, answer_time, connected_time, first_media_time: by `time.monotonic`; the answer
            is that to a ping, as the protocol has none to `start`.
        unsent: messages that the connection did not take, as it was full.
        ended: whether the server has closed the connection.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url + "/websocket/offer"
        self.webrtc_id = uuid.uuid4().hex
        self.received: list[tuple[float, str]] = []
        self.offer_time = self.answer_time = self.connected_time = 0.0
        self.first_media_time: float | None = None
        self.unsent = 0
        self.ended = False
        self._headers = headers
        self._recording = False
        self._reading: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._first_media = asyncio.Event()
        self._refusal: Refused | None = None
        self._sends: set[asyncio.Task[None]] = set()

    async def connect(self, session: aiohttp.ClientSession, timeout: float = 30.0) -> None:
        """Connect, start, and wait until the server takes part.

        Raises:
            Refused: the call was not taken.
            TimeoutError: it is not connected in time.
            aiohttp.ClientError: the handshake failed.
        """
        self.offer_time = time.monotonic()
        async with asyncio.timeout(timeout):
            try:
                self._socket = await session.ws_connect(self.url, headers=self._headers)
            except aiohttp.WSServerHandshakeError as error:
                raise Refused(f"http_{error.status}", error.status) from error
            self._reading = asyncio.create_task(self._read())
            await self._say({"event": "start", "websocket_id": self.webrtc_id})
            await self._say({"event": "ping"})
            await self._answered.wait()
        if self._refusal is not None:
            raise self._refusal
        self.answer_time = self.connected_time = time.monotonic()

    async def _say(self, message: dict[str, str]) -> None:
        try:
            await self._socket.send_str(json.dumps(message))
        except ConnectionError:
            pass  # what was received before says why

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data)
        finally:
            self.ended = True
            if not self._answered.is_set():
                self._refusal = self._refusal or Refused("closed")
                self._answered.set()

    def _take(self, text: str) -> None:
        if '"media"' in text[:40]:
            now = time.monotonic()
            if self.first_media_time is None:
                self.first_media_time = now
                self._first_media.set()
            if self._recording:
                self.received.append((now, text))
        elif '"pong"' in text:
            self._answered.set()
        elif '"failed"' in text:
            self._refusal = refusal(text)

    def send(self, message: str) -> None:
        """Send a message that is ready, unless a second of them waits already."""
        if len(self._sends) >= UNSENT_MAX or self.ended:
            self.unsent += 1
            return
        sending = asyncio.create_task(self._send(message))
        self._sends.add(sending)
        sending.add_done_callback(self._sends.discard)

    async def _send(self, message: str) -> None:
        try:
            await self._socket.send_str(message)
        except (ConnectionError, aiohttp.ClientError):
            self.unsent += 1

    async def first_media(self, timeout: float = 20.0) -> float:
        """When the first audio came; TimeoutError when none does."""
        async with asyncio.timeout(timeout):
            await self._first_media.wait()
        assert self.first_media_time is not None
        return self.first_media_time

    def record(self) -> None:
        """Keep what comes from now on."""
        self._recording = True

    def stop_recording(self) -> None:
        """Keep no more."""
        self._recording = False

    async def close(self) -> None:
        """Hang up."""
        if self._reading is None:
            return
        for task in (self._reading, *self._sends):
            task.cancel()
        await asyncio.gather(self._reading, *self._sends, return_exceptions=True)
        await self._socket.close()
