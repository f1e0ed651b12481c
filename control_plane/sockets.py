"""The WebSocket routes of a stream: from the client's `start` to the worker that serves it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from fastapi import WebSocket
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from control_plane.client_socket import client_socket
from control_plane.limits import (
    FRAMES_BEFORE_START_MAX,
    SOCKETS_STARTING_MAX,
    START_TIMEOUT,
    RequestTimeout,
)
from control_plane.relay import close, receive_text, refuse, relay, splice
from control_plane.replica import Replica
from control_plane.twilio import check_handshake
from rayrtc import log_fields, tracing
from rayrtc.cluster.models import ConnectionId, ConnectionRequest, SocketRequest
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import (
    Forbidden,
    InvalidMessage,
    NoWorkerAvailable,
    RayRTCError,
    UnsupportedTrack,
)
from rayrtc.stream import Stream
from rayrtc.websocket_frames import NORMAL

logger = logging.getLogger(__name__)

T = TypeVar("T")
Transport = Literal["websocket", "telephone"]
Open = Callable[[str, SocketRequest, float], Awaitable[T]]
"""Opens a WebSocket to the worker at an address, within so many seconds."""

_IDS: dict[Transport, str] = {"websocket": "websocket_id", "telephone": "streamSid"}
"""The member of `start` that is the connection's id."""
_CONNECTION_ID = TypeAdapter(ConnectionId)


class Sockets:
    """The WebSocket endpoints of one stream."""

    def __init__(self, replica: Replica, stream: Stream) -> None:
        self._replica = replica
        self._stream = stream

    async def websocket_offer(self, websocket: WebSocket) -> None:
        """Serve a client that sends and plays mu-law audio in JSON frames."""
        await websocket.accept()
        await self._serve(websocket, "websocket")

    async def telephone_handler(self, websocket: WebSocket) -> None:
        """Serve a call of Twilio Media Streams; 403 to a handshake that Twilio has not signed."""
        try:
            check_handshake(websocket, self._replica.services.settings.twilio_auth_token)
        except Forbidden as error:
            logger.warning("call refused: %s", error)
            await websocket.close()  # before `accept`, this is an answer with status 403
            return
        await websocket.accept()
        await self._serve(websocket, "telephone")

    async def _serve(self, client: WebSocket, transport: Transport) -> None:
        metrics, name = self._replica.metrics, self._stream.name
        outcome = "cancelled"
        try:
            if (self._stream.modality, self._stream.mode) != ("audio", "send-receive"):
                raise UnsupportedTrack(
                    "the stream is for WebRTC: this route carries audio both ways"
                )
            log_fields.add(stream=name, transport=transport)
            async with self._starting():
                connection_id = await _start(client, transport)
                log_fields.add(connection_id=connection_id)
                if connection_id is None:
                    await close(client, NORMAL)
                    return
                relaying = await self._assign(client, connection_id, transport)
            outcome = "answered"
        except RayRTCError as error:
            outcome = error.code
            logger.info("%s refused: %s", transport, error)
            await refuse(client, error)
            return
        except UNREACHABLE as error:
            outcome = NoWorkerAvailable.code
            logger.warning("Redis: %s", error)
            metrics.redis_errors.inc()
            await refuse(client, NoWorkerAvailable("the registry cannot be reached"))
            return
        finally:
            metrics.socket_starts.labels(name, transport, outcome).inc()
        with metrics.sockets.labels(transport).track_inprogress():
            await relaying

    @asynccontextmanager
    async def _starting(self) -> AsyncIterator[None]:
        """Count a WebSocket that has not started yet.

        Raises:
            NoWorkerAvailable: there are too many.
        """
        if self._replica.sockets_starting >= SOCKETS_STARTING_MAX:
            raise NoWorkerAvailable("too many WebSockets are waiting to start")
        self._replica.sockets_starting += 1
        try:
            yield
        finally:
            self._replica.sockets_starting -= 1

    async def _assign(
        self, client: WebSocket, connection_id: str, transport: Transport
    ) -> Coroutine[None, None, None]:
        """Have a worker take the client. Returns what passes on their frames."""
        workers = self._replica.services.workers
        if (socket := client_socket(client)) is not None:
            spliced = await self._ask(connection_id, transport, workers.open_spliced)
            return splice(client, socket, spliced)
        return relay(client, await self._ask(connection_id, transport, workers.open_socket))

    async def _ask(self, connection_id: str, transport: Transport, open: Open[T]) -> T:
        async def ask(address: str, request: ConnectionRequest, timeout: float) -> T:
            socket = SocketRequest(**dict(request), transport=transport)
            return await open(address, socket, timeout)

        with tracing.span(
            "offer",
            "server",
            connection_id=connection_id,
            stream=self._stream.name,
            transport=transport,
            request_id=log_fields.current_request_id(),
        ):
            assigned = await self._replica.services.assignment.assign(
                self._stream.name,
                self._stream.concurrency_limit,
                connection_id,
                ask,
            )
        return assigned.answer


async def _start(client: WebSocket, transport: Transport) -> str | None:
    """The connection id of the client's `start`; None when it leaves before.

    Raises:
        InvalidMessage: what it sends is no beginning.
        TooLarge: a frame is larger than allowed.
        RequestTimeout: no `start` came in time.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT):
            for _ in range(FRAMES_BEFORE_START_MAX):
                text = await receive_text(client)
                if text is None:
                    return None
                message = _parse(text)
                event = message.get("event")
                if event == "start":
                    return _connection_id(message, _IDS[transport])
                if event == "stop":
                    return None
                if event == "ping":
                    await client.send_json({"event": "pong"})
                elif event not in ("connected", "media"):
                    raise InvalidMessage("the first event is start")
    except TimeoutError as error:
        raise RequestTimeout(f"no start within {START_TIMEOUT:g} s") from error
    raise InvalidMessage(f"no start within {FRAMES_BEFORE_START_MAX} frames")


def _parse(text: str) -> dict[str, Any]:
    try:
        message = from_json(text, allow_inf_nan=False)
    except ValueError:
        raise InvalidMessage("a frame is no JSON") from None
    if not isinstance(message, dict):
        raise InvalidMessage("a frame is no JSON object")
    return message


def _connection_id(start: dict[str, Any], member: str) -> str:
    try:
        return _CONNECTION_ID.validate_python(start.get(member), strict=True)
    except ValidationError:
        raise InvalidMessage(f"{member} is missing or not of the form of an id") from None
