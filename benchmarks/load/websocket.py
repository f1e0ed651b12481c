"""Callers that send mu-law in JSON over a WebSocket, as FastRTC's clients do."""

import asyncio
import base64
import json
import time
import uuid

import aiohttp

from benchmarks.load import sound
from benchmarks.load.callers import Callers
from benchmarks.load.protocol import Load, Result
from tests import mulaw

RATE = 24000
"""Of the handlers, and so of the WebSocket, both ways."""


class SocketPeer:
    """A call over WebSocket, not compressed.

    Attributes:
        received: time and text of each message with audio since `record` was called.
    """

    def __init__(self, url: str) -> None:
        self.url = url + "/websocket/offer"
        self.received: list[tuple[float, str]] = []
        self._recording = False
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, session: aiohttp.ClientSession, timeout: float = 30.0) -> None:
        """Connect and start."""
        async with asyncio.timeout(timeout):
            self._socket = await session.ws_connect(self.url)
            start = {"event": "start", "websocket_id": uuid.uuid4().hex}
            await self._socket.send_str(json.dumps(start))
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            if self._recording and '"media"' in message.data[:40]:
                self.received.append((time.monotonic(), message.data))

    async def send(self, message: str) -> None:
        """Send a message that is ready."""
        await self._socket.send_str(message)

    def record(self) -> None:
        """Keep what comes from now on."""
        self._recording = True

    def stop_recording(self) -> None:
        """Keep no more."""
        self._recording = False

    async def close(self) -> None:
        """Hang up."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            await self._socket.close()


class SocketCallers(Callers[SocketPeer]):
    """Each sends a message of 20 ms fifty times a second."""

    interval = 0.02

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        samples = sound.speech_with_bursts(RATE)
        size = RATE // sound.PACKETS
        self._messages = [
            json.dumps({"event": "media", "media": {"payload": base64.b64encode(piece).decode()}})
            for piece in (
                mulaw.encode(samples[at : at + size]) for at in range(0, len(samples), size)
            )
        ]
        self._sends: set[asyncio.Task[None]] = set()

    def make_peer(self) -> SocketPeer:
        return SocketPeer(self.load.url)

    def send(self, caller: int, count: int) -> None:
        at = (count + caller * 7) % len(self._messages)
        if at in sound.BURSTS:
            self.mark(caller)
        sending = asyncio.create_task(self.peers[caller].send(self._messages[at]))
        self._sends.add(sending)
        sending.add_done_callback(self._sends.discard)

    def result(self) -> Result:
        decoded = [
            [
                mulaw.decode(base64.b64decode(json.loads(text)["media"]["payload"]))
                for _, text in peer.received
            ]
            for peer in self.peers
        ]
        # messages may be of another length than ours
        size = RATE // sound.PACKETS
        result = self.counted([sum(map(len, parts)) // size for parts in decoded])
        for caller, (peer, parts) in enumerate(zip(self.peers, decoded, strict=True)):
            found = sound.burst_packets(parts, RATE)
            self.pair(result, caller, [peer.received[at][0] for at in found])
        return result
