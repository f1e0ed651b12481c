"""A WebSocket client that sends bytes as a test has made them, and sees each frame that comes."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

from rayrtc.websocket_frames import CLOSE, read_head

NO_HEADERS: Mapping[str, str] = {}


def frame(opcode: Opcode, payload: bytes = b"", final: bool = True) -> bytes:
    """A client's frame."""
    return Frame(opcode, payload, final).serialize(mask=True)


def text(payload: str) -> bytes:
    """A client's message in one frame."""
    return frame(Opcode.TEXT, payload.encode())


class RawSocket:
    """What follows the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._received = b""

    async def send(self, *parts: bytes, apart: float = 0.0) -> None:
        """Send bytes; those of each part in segments of their own if `apart` is above 0 s."""
        for part in parts if apart else [b"".join(parts)]:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(apart)

    async def receive(self, timeout: float = 5.0) -> tuple[int, bytes]:
        """The opcode and payload of the next frame.

        Raises:
            EOFError: the connection has ended.
        """
        async with asyncio.timeout(timeout):
            while True:
                head = read_head(self._received)
                if head is not None and len(self._received) >= head.size:
                    payload = self._received[head.begin : head.size]
                    self._received = self._received[head.size :]
                    return head.opcode, payload
                if not (data := await self.reader.read(65536)):
                    raise EOFError
                self._received += data

    async def close_code(self, timeout: float = 5.0) -> int:
        """The code with which the other end closes, whatever comes before."""
        while True:
            opcode, payload = await self.receive(timeout)
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])


@asynccontextmanager
async def raw_socket(url: str, headers: Mapping[str, str] = NO_HEADERS) -> AsyncIterator[RawSocket]:
    """A WebSocket to `url` (http://HOST:PORT/PATH)."""
    to = urlsplit(url)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    try:
        key = base64.b64encode(bytes(16)).decode()
        lines = [
            f"GET {to.path} HTTP/1.1",
            f"Host: {to.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b" 101 " in head, head
        yield RawSocket(reader, writer)
    finally:
        writer.close()
