"""Joins a client's WebSocket and a worker's, so that bytes go through as they come.

Nothing is decoded: of each frame the head is looked at, for the client's limits and to know where
one ends. Both are read every 10 ms. Nothing is queued: a side that is full is not read for, so that
TCP holds up the other.
"""

import asyncio
from enum import Enum, auto

from websockets.frames import Opcode

from control_plane.client_socket import ClientSocket
from control_plane.limits import FRAME_MAX, SEND_TIMEOUT
from control_plane.polled_sockets import PolledSocket, polled_sockets
from control_plane.worker_socket import WorkerSocket
from rayrtc.errors import InvalidMessage, TooLarge
from rayrtc.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL_MAX,
    INVALID_DATA,
    NORMAL,
    PING,
    PONG,
    TEXT,
    WHOLE_TEXT,
    Head,
    Walk,
)

BEAT = 5.0
"""Seconds between two looks at whether both sides still live."""
SILENT_BEATS = 2
"""Beats without a byte after which a side is pinged."""
WORKER_BEATS = 3
CLIENT_BEATS = 6
"""Beats without a byte after which a side has vanished."""


class End(Enum):
    """How a splice has ended."""

    CLIENT = auto()
    """The client has closed, or is gone."""
    WORKER = auto()
    """The worker has closed as it should."""
    WORKER_LOST = auto()
    """The worker is gone, or takes nothing any more."""


class Splice:
    """Passes on what a client and its worker send each other, until one of them ends.

    Then both sockets are between two frames, but where `client_between_frames` says otherwise; the
    worker's is closed.
    """

    def __init__(self, client: ClientSocket, worker: WorkerSocket) -> None:
        self._client = client
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[End] = self._loop.create_future()
        self._of_client = Walk(self._check_client)
        self._of_worker = Walk(lambda head: None)
        polled = polled_sockets()
        self._polled_client = PolledSocket(polled, client.transport, self.from_client)
        self._polled_worker = PolledSocket(polled, worker.transport, self.from_worker)
        self._late = b""  # of the client, after the end
        self._message: int | None = None  # bytes so far of the client's, when it is in parts
        self._client_silent = 0
        self._worker_silent = 0
        self._client_full: asyncio.TimerHandle | None = None
        self._worker_full: asyncio.TimerHandle | None = None

    async def run(self) -> End:
        """Pass bytes on until the end.

        Raises:
            TooLarge: the client has sent a message of more than `FRAME_MAX` bytes.
            InvalidMessage: it has sent what is not text, or no frames of RFC 6455.
        """
        beat = self._loop.create_task(self._beats())
        try:
            # before either side may turn out to be full
            self._polled_client.resume()
            self._polled_worker.resume()
            self._worker.hold(self)
            self._client.hold(self)
            return await self._ended
        finally:
            beat.cancel()
            self._polled_client.stop()
            self._polled_worker.stop()
            for timer in (self._client_full, self._worker_full):
                if timer is not None:
                    timer.cancel()
            if self._client_full is not None:
                self._client.transport.abort()  # it takes nothing, so it is not waited for
            refused = self._of_client.error is not None
            whole = self._of_client.between_frames and self._of_worker.between_frames
            self._client.let_go(self._of_client.rest + self._late, refused or not whole)
            self._close_worker()

    @property
    def client_between_frames(self) -> bool:
        """Whether the client was sent whole frames only."""
        return self._of_worker.between_frames

    # told by the client's socket

    def from_client(self, data: bytes) -> None:
        if self._ended.done():
            self._late += data  # `run` goes on at once
            return
        self._client_silent = 0
        data = self._of_client.follow(data)
        if data and not self._worker.transport.is_closing():
            self._worker.transport.write(data)
        if self._of_client.error is not None:
            self._ended.set_exception(self._of_client.error)
        elif self._of_client.close:
            self._end(End.CLIENT)

    def client_is_full(self, full: bool) -> None:
        self._client_full = self._hold_up(full, self._polled_worker, self._client_full)

    def client_lost(self) -> None:
        self._polled_client.stop()
        self._end(End.CLIENT)

    # told by the worker's socket

    def from_worker(self, data: bytes) -> None:
        if self._ended.done():
            return
        self._worker_silent = 0
        data = self._of_worker.follow(data)
        if not self._client.transport.is_closing():
            self._client.transport.write(data)
        if close := self._of_worker.close:
            code = int.from_bytes(close[2:4])
            if code == INVALID_DATA:
                self._ended.set_exception(InvalidMessage("a message is not UTF-8"))
            else:
                self._end(End.WORKER if code == NORMAL else End.WORKER_LOST)

    def worker_is_full(self, full: bool) -> None:
        self._worker_full = self._hold_up(full, self._polled_client, self._worker_full)

    def worker_lost(self) -> None:
        self._polled_worker.stop()
        self._end(End.WORKER_LOST)

    def _check_client(self, head: Head) -> None:
        whole = head.first == WHOLE_TEXT and self._message is None
        if whole and head.masked and head.size <= FRAME_MAX:
            return  # nearly all are so
        opcode = head.opcode
        if opcode == BINARY:
            raise InvalidMessage("frames are text")
        if not head.masked or not head.plain:
            raise InvalidMessage("a frame is not as RFC 6455 has it")
        if opcode in (TEXT, CONTINUATION):
            if (opcode == TEXT) != (self._message is None):
                raise InvalidMessage("the parts of a message do not follow each other")
            size = head.payload + (self._message or 0)
            if size > FRAME_MAX:
                raise TooLarge(f"a frame has at most {FRAME_MAX} bytes")
            self._message = None if head.final else size
        elif opcode not in (CLOSE, PING, PONG):
            raise InvalidMessage("a frame is of no known kind")
        elif not head.final or head.payload > CONTROL_MAX:
            raise InvalidMessage("a control frame is in parts or too long")

    def _end(self, how: End) -> None:
        if not self._ended.done():
            self._ended.set_result(how)

    def _hold_up(
        self, full: bool, other: PolledSocket, timer: asyncio.TimerHandle | None
    ) -> asyncio.TimerHandle | None:
        """Read from the other side only while this one takes it. Returns the deadline for that."""
        if timer is not None:
            timer.cancel()
        if not full:
            other.resume()
            return None
        other.pause()
        side = End.WORKER_LOST if other is self._polled_client else End.CLIENT
        return self._loop.call_later(SEND_TIMEOUT, self._end, side)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            # a side that is not read from cannot give a sign of life
            if self._worker_full is None:
                self._client_silent += 1
            if self._client_full is None:
                self._worker_silent += 1
            if self._worker_silent >= WORKER_BEATS:
                self._worker.transport.abort()
                self._end(End.WORKER_LOST)
                return
            if self._client_silent >= CLIENT_BEATS:
                self._client.transport.abort()
                self._end(End.CLIENT)
                return
            if self._client_silent >= SILENT_BEATS and self._of_worker.between_frames:
                self._client.send_frame(Opcode.PING)
            # the worker does not wait as long for a silent client, and has to hear from us
            silent = max(self._client_silent, self._worker_silent) >= SILENT_BEATS
            if silent and self._of_client.between_frames:
                self._worker.send(Opcode.PING)

    def _close_worker(self) -> None:
        if self._worker.transport.is_closing():
            return
        if self._of_client.between_frames:
            self._worker.send(Opcode.CLOSE, NORMAL.to_bytes(2))
        if self._worker_full is not None:
            self._worker.transport.abort()
        else:
            self._worker.transport.close()
