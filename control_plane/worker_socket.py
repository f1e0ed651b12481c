"""A WebSocket to a worker whose frames are passed on as bytes once the worker has taken the client.

The handshake is the `websockets` library's. After it whoever holds the socket takes the bytes.
"""

import asyncio
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from rayrtc.websocket_frames import TEXT, read_head

HEAD_MAX = 16 << 10
"""Bytes of the answer to the handshake."""
ANSWER_MAX = 64 << 10
"""Bytes of the worker's first frame."""


class Holder(Protocol):
    """Who takes what a worker's socket has."""

    def from_worker(self, data: bytes) -> None:
        """Bytes of the worker."""

    def worker_is_full(self, full: bool) -> None:
        """Whether the worker takes no more for now."""

    def worker_lost(self) -> None:
        """The connection is gone."""


class WorkerSocket(asyncio.Protocol):
    """One WebSocket to a worker, made by `open_worker_socket`."""

    transport: asyncio.Transport

    def __init__(self, handshake: ClientProtocol, first: str) -> None:
        self._handshake = handshake
        self._first = first
        self._holder: Holder | None = None
        self._received = b""
        self._upgraded = False
        self._full = False
        self._lost = False
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """The payload of the worker's first frame."""

    # told by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.writelines(self._handshake.data_to_send())

    def data_received(self, data: bytes) -> None:
        if self._holder is not None:
            self._holder.from_worker(data)
            return
        self._received += data
        if self.answer.done():
            self.transport.pause_reading()  # nobody is there yet to take it
            return
        try:
            self._read_answer()
        except (WebSocketException, ValueError) as error:
            self.answer.set_exception(ValueError(str(error)))
            self.transport.abort()

    def _read_answer(self) -> None:
        if not self._upgraded:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                if len(head) > HEAD_MAX:
                    raise ValueError("the answer to the handshake is too long")
                return
            self._handshake.receive_data(head + end)
            if self._handshake.handshake_exc is not None:
                raise self._handshake.handshake_exc
            if self._handshake.state is not State.OPEN:  # a body follows, which may say why
                status = head.split(b"\r\n", 1)[0].decode(errors="replace")
                raise ValueError(f"the worker refuses the handshake: {status}")
            self._upgraded = True
            self._received = rest
            self.send(Opcode.TEXT, self._first.encode())
        frame = read_head(self._received)
        if frame is None:
            return
        if frame.first != 0x80 | TEXT or frame.masked or frame.size > ANSWER_MAX:
            raise ValueError("no answer in the first frame")
        if len(self._received) >= frame.size:
            self.answer.set_result(self._received[frame.begin : frame.size])
            self._received = self._received[frame.size :]

    def pause_writing(self) -> None:
        self._full = True
        if self._holder is not None:
            self._holder.worker_is_full(True)

    def resume_writing(self) -> None:
        self._full = False
        if self._holder is not None:
            self._holder.worker_is_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if not self.answer.done():
            self.answer.set_exception(ConnectionError("the worker closed the connection"))
            self.answer.exception()  # it is known here, whether or not anybody still waits for it
        if self._holder is not None:
            self._holder.worker_lost()

    # asked by who holds it

    def hold(self, holder: Holder) -> None:
        """Give `holder`, which polls the transport from now on, what has come, and later what the
        transport reads by itself."""
        self._holder = holder
        if self._full:
            holder.worker_is_full(True)
        if self._received:
            received, self._received = self._received, b""
            holder.from_worker(received)
        if self._lost:
            holder.worker_lost()

    def send(self, opcode: Opcode, payload: bytes = b"", final: bool = True) -> None:
        """Send a frame. Only between two frames."""
        self.transport.write(Frame(opcode, payload, final).serialize(mask=True))


async def open_worker_socket(address: str, headers: dict[str, str], first: str) -> WorkerSocket:
    """Open a WebSocket at `address` (http://HOST:PORT/PATH) whose first frame is the text `first`;
    the caller then waits for `WorkerSocket.answer`, and closes its transport.

    Raises:
        OSError: the worker cannot be reached.
    """
    url = urlsplit(address)
    handshake = ClientProtocol(parse_uri(url._replace(scheme="ws").geturl()))
    request = handshake.connect()
    request.headers.update(headers)
    handshake.send_request(request)
    loop = asyncio.get_running_loop()
    assert url.hostname is not None
    assert url.port is not None
    made: Any = await loop.create_connection(
        lambda: WorkerSocket(handshake, first), url.hostname, url.port
    )
    socket: WorkerSocket = made[1]
    return socket
