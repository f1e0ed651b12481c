"""The worker's end of a WebSocket whose handshake is done: whole text messages, in and out.

A message in one frame, which nearly all are, is taken from the wire here; everything else (parts of
messages, pings, the closing handshake, errors) is the `websockets` library's.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from rayrtc.websocket_frames import (
    CONTROL_MAX,
    INVALID_DATA,
    NORMAL,
    WHOLE_PING,
    WHOLE_TEXT,
    Head,
    read_head,
    text_frame,
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # where the library was installed without a compiler
    from websockets.utils import apply_mask

FRAME_MAX: Final = 1 << 20
"""Bytes of a message; the control plane lets through less of a client's."""
BEAT: Final = 5.0
"""Seconds between two looks at whether the other end still lives."""
SILENT_BEATS: Final = 2
"""Beats without a byte after which the other end is pinged."""
LAST_BEAT: Final = 4
"""Beats without a byte after which it has vanished."""
UNSUPPORTED_DATA: Final = 1003
TOO_BIG: Final = 1009
"""Close codes (RFC 6455, 7.4.1)."""


class FrameSocket(asyncio.Protocol):
    """One WebSocket. Made by the request handler of an HTTP server that has answered the handshake,
    before the loop runs anything else; from then on it has the transport.

    Args:
        transport: that of the request.
        first_max: bytes of the first message; the others have at most `FRAME_MAX`.
    """

    def __init__(self, transport: asyncio.Transport, first_max: int) -> None:
        self._transport = transport
        self._server = transport.get_protocol()
        self._loop = asyncio.get_running_loop()
        self._library = ServerProtocol(state=State.OPEN, max_size=FRAME_MAX)
        self._frame_max = first_max
        self._parts = bytearray()
        self._in_parts = False
        self._pending = b""
        self._ping = b""  # not answered yet
        self._first: asyncio.Future[bytes] = self._loop.create_future()
        self._take: Callable[[bytes], None] = self._take_first
        self._lost_told: Callable[[], None] = lambda: None
        self._holds = False  # messages, until somebody listens
        self._closing = False
        self._room = asyncio.Event()
        self._room.set()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._silent = 0
        self._beat = self._loop.call_later(BEAT, self._look)
        transport.set_protocol(self)

    # told by the loop

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at = 0
        while not self._holds and (head := read_head(data, at)) is not None:
            if head.size > self._frame_max:
                self._fail(TOO_BIG)
                return
            if at + head.size > len(data):
                break
            self._take_frame(head, data, at)
            at += head.size
        self._answer_ping()
        if at < len(data):
            self._pending = data[at:]

    def eof_received(self) -> None:
        """The transport then closes itself."""

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._beat.cancel()
        self._room.set()
        if not self._first.done():
            self._first.set_exception(ConnectionError("it was closed"))
            self._first.exception()  # it is known here, whether or not anybody still waits for it
        self._lost.set_result(None)
        self._server.connection_lost(error)
        self._lost_told()

    # asked by who serves the client

    async def first(self, timeout: float) -> bytes:
        """The first message. Those that follow are not read before `listen`.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            ConnectionError: the other end has gone.
        """
        async with asyncio.timeout(timeout):
            return await asyncio.shield(self._first)

    def listen(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Have `take` called with each message, and `lost` when there will be no more."""
        self._take, self._lost_told = take, lost
        if self._lost.done():
            lost()
            return
        self._read_on()

    @property
    def full(self) -> bool:
        """Whether the other end takes nothing for now."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until the other end takes more.

        Raises:
            ConnectionError: it has gone.
        """
        await self._room.wait()
        if self._closing:
            raise ConnectionError("the WebSocket is closed")

    def send(self, message: bytes) -> None:
        """Send a text message. It is queued, so that who sends more has to look at `full` first.

        Raises:
            ConnectionError: the WebSocket is closed.
        """
        if self._closing:
            raise ConnectionError("the WebSocket is closed")
        self._transport.write(text_frame(message))

    async def close(self, timeout: float) -> None:
        """Close with the closing handshake, for which the other end has `timeout` seconds."""
        if not self._closing:
            self._closing = True
            self._library.send_close(NORMAL)
            self._flush()
        if self._holds and not self._lost.done():
            self._read_on()  # else the other end's answer, and that it goes, would not be seen
        await asyncio.wait([self._lost], timeout=timeout)
        if not self._lost.done():
            self._transport.abort()

    # frames

    def _read_on(self) -> None:
        self._holds = False
        self.data_received(b"")
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _take_frame(self, head: Head, data: bytes, at: int) -> None:
        begin = at + head.begin
        payload = data[begin : at + head.size]
        if head.first == WHOLE_TEXT and head.masked and not self._in_parts and not self._closing:
            self._take(apply_mask(payload, data[begin - 4 : begin]))
            return
        if head.first == WHOLE_PING and head.masked and head.payload <= CONTROL_MAX:
            self._ping = data[at : at + head.size]
            return
        self._pass_on(data[at : at + head.size])

    def _pass_on(self, frame: bytes) -> None:
        """Have the library take a frame."""
        self._library.receive_data(frame)
        for event in self._library.events_received():
            if isinstance(event, Frame):
                self._take_event(event)
        self._flush()

    def _take_event(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self._fail(UNSUPPORTED_DATA)
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT) and not self._closing:
            self._parts += frame.data
            self._in_parts = not frame.fin
            if frame.fin:
                message = bytes(self._parts)
                self._parts.clear()
                self._take(message)

    def _answer_ping(self) -> None:
        """Answer the last ping of those that came together (RFC 6455, 5.5.3), and none of who takes
        nothing: the answers would pile up."""
        if self._ping and not self.full:
            self._pass_on(self._ping)
        self._ping = b""

    def _take_first(self, message: bytes) -> None:
        self._holds = True
        self._frame_max = FRAME_MAX
        self._transport.pause_reading()
        if not self._first.done():
            self._first.set_result(message)

    def fail_decoding(self) -> None:
        """A message was not UTF-8."""
        self._fail(INVALID_DATA)

    def _fail(self, code: int) -> None:
        if not self._closing:
            self._library.fail(code)
            self._flush()

    def _flush(self) -> None:
        """Send what the library has to say; it ends with nothing when the connection should."""
        for data in self._library.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._closing = True
                self._transport.close()

    def _look(self) -> None:
        self._beat = self._loop.call_later(BEAT, self._look)
        if self._holds:
            return
        self._silent += 1
        if self._silent >= LAST_BEAT:
            self._transport.abort()
        elif self._silent >= SILENT_BEATS and not self._closing:
            self._library.send_ping(b"")
            self._flush()
