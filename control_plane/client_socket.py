"""A client's WebSocket under uvicorn that can be spliced with a worker's (`control_plane.splice`).

Handshake and all frames until then are uvicorn's, as are those after the splice has ended. It is
bound to names of uvicorn's protocol that are not published; `tests/control_plane/test_splice.py`
holds them.
"""

from typing import Any, Protocol

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from rayrtc.websocket_frames import whole_frames

EXTENSION = "rayrtc.splice"
"""Name of the ASGI extension by which a route reaches its client's `ClientSocket`."""
FRAMES_MAX = 4096
"""Frames of a client that are taken apart, before and after the splice; who sends more is cut off.
Sound of 20 ms each is fewer, in all that can wait for a worker."""


class Holder(Protocol):
    """Who takes what a client's socket has."""

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""

    def client_is_full(self, full: bool) -> None:
        """Whether the client takes no more for now."""

    def client_lost(self) -> None:
        """The connection is gone."""

    @property
    def client_between_frames(self) -> bool:
        """Whether the client was sent whole frames only."""


class ClientSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with the option to hold its transport for a while."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._holder: Holder | None = None
        self._partial = b""
        self._frames = 0
        self._deaf = False

    def data_received(self, data: bytes) -> None:
        if self._holder is not None:
            self._holder.from_client(data)
        elif not self.handshake_initiated:
            super().data_received(data)
        elif not self._deaf:
            # the parser is given whole frames, so that it never is inside of one at a splice
            data = self._partial + data
            end, count = whole_frames(data, self.config.ws_max_size)
            self._partial = data[end:]
            self._frames += count
            if self._frames > FRAMES_MAX:
                self.transport.abort()
            elif end:
                super().data_received(data[:end])

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: Any = self.scope["extensions"]
            extensions[EXTENSION] = self

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the answer: more of them would pile up

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._holder is not None:
            self._holder.client_is_full(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._holder is not None:
            self._holder.client_is_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._holder is not None:
            self._holder.client_lost()

    def shutdown(self) -> None:
        if self._holder is not None and not self._holder.client_between_frames:
            self.transport.close()
        else:
            super().shutdown()

    def hold(self, holder: Holder) -> None:
        """Give `holder`, which polls the transport from now on, what the route has not received,
        and later what the transport reads by itself.

        The route neither sends nor receives until `let_go`.
        """
        self.stop_keepalive()
        self._holder = holder
        if not self.writable.is_set():
            holder.client_is_full(True)
        while not self.queue.empty():
            event: Any = self.queue.get_nowait()
            if event["type"] != "websocket.receive":
                holder.client_lost()
                return
            text = event.get("text")
            data = event["bytes"] if text is None else text.encode()
            opcode = Opcode.BINARY if text is None else Opcode.TEXT
            holder.from_client(Frame(opcode, data).serialize(mask=True))
        if self.frames:  # the begin of a message in several frames
            opcode = Opcode.TEXT if self.curr_msg_data_type == "text" else Opcode.BINARY
            begin = Frame(opcode, b"".join(self.frames), fin=False)
            self.frames = []
            # the parser does not see the rest: to it, the message ends here
            self.conn.receive_data(Frame(Opcode.CONT, b"").serialize(mask=True))
            self.conn.events_received()
            holder.from_client(begin.serialize(mask=True))
        partial, self._partial = self._partial, b""
        if partial:
            holder.from_client(partial)

    def let_go(self, rest: bytes, inside_frame: bool) -> None:
        """Give the WebSocket back to its route.

        Args:
            rest: what the holder was given and has not taken.
            inside_frame: whether it has taken or sent a frame in part: what follows is not read,
                as nothing could be answered.
        """
        self._holder = None
        self._deaf = inside_frame
        self.read_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if rest and not self.disconnected:
            self.data_received(rest)

    def send_frame(self, opcode: Opcode, payload: bytes = b"") -> None:
        """Send a frame. Only between two frames."""
        self.transport.write(Frame(opcode, payload).serialize(mask=False))


def client_socket(client: WebSocket) -> ClientSocket | None:
    """That of a route's client; None under another server than `rayrtc control-plane`."""
    socket = client.scope.get("extensions", {}).get(EXTENSION)
    return socket if isinstance(socket, ClientSocket) else None
