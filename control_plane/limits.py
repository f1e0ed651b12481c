"""What a request may cost: sizes, times and counts, and the route class that holds them.

Every route of the contract is a `ContractRoute`: its body is read within the limits before any
work, JSON that cannot be answered in JSON (NaN, lone surrogates, endless nesting) is refused, and
every failure leaves in the common body.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, APIWebSocketRoute, get_websocket_app, websocket_session
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive
from starlette.websockets import WebSocketState

from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import NoWorkerAvailable, RayRTCError, TooLarge

logger = logging.getLogger(__name__)

T = TypeVar("T")

BODY_MAX = 1 << 20
"""Bytes of a JSON body."""
BODY_TIMEOUT = 10.0
"""Seconds in which a body must have arrived."""
SDP_MAX = 128 << 10
"""Bytes of a session description."""
FRAME_MAX = 256 << 10
"""Bytes of a WebSocket frame of a client."""
START_TIMEOUT = 10.0
"""Seconds from a WebSocket's handshake to its `start`."""
FRAMES_BEFORE_START_MAX = 64
SOCKETS_STARTING_MAX = 1024
"""WebSockets of one replica that have not started yet."""
CANDIDATE_MAX = 1 << 10
"""Characters of a candidate."""
CANDIDATE_WAIT = 3.0
"""Seconds that a candidate waits for its offer."""
EVENTS_WAIT = 3.0
"""Seconds that a new reader of events waits for its connection: pages open both at once."""
LATEST_TIMEOUT_MAX = 60.0
"""Seconds that `/outputs/latest` waits at most."""
SEND_TIMEOUT = 30.0
"""Seconds that an event-stream client may leave its connection full."""
ERRORS_MAX = 32
"""Wrong values of a body that are listed."""
PROBE_TIMEOUT = 2.0
"""Seconds that `/readyz` and `/metrics` wait for Redis."""

_KEY_MAX = 128
_MESSAGE_MAX = 512


class RequestTimeout(RayRTCError):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408


class BoundedRequest(Request):
    """A request whose body is read within the limits and parsed as strict JSON (RFC 8259)."""

    async def load(self, limit: int = BODY_MAX) -> None:
        """Read the body.

        Raises:
            TooLarge: it is larger than `limit` bytes, by its header or in fact.
            RequestTimeout: it took longer than `BODY_TIMEOUT`.
            ClientDisconnect: the client went away.
        """
        length = self.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > limit):
            raise TooLarge(f"a body has at most {limit} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for chunk in self.stream():
                    body += chunk
                    if len(body) > limit:
                        raise TooLarge(f"a body has at most {limit} bytes")
        except TimeoutError as error:
            raise RequestTimeout(f"the body took longer than {BODY_TIMEOUT:g} s") from error
        self._body = bytes(body)

    async def json(self) -> Any:
        """The parsed body.

        Raises:
            JSONDecodeError: it is no JSON.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            # the text stays out of the exception: it may not be encodable in an answer
            raise json.JSONDecodeError(str(error), "", 0) from None


class ContractRoute(APIRoute):
    """A route with the contract's limits and failures."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI inside of ours."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request = BoundedRequest(request.scope, request.receive)
            try:
                if self.body_field is not None:
                    await request.load()
                return await handler(request)
            except RayRTCError as error:
                return failure(error)
            except UNREACHABLE as error:
                logger.warning("Redis: %s", error)
                request.app.state.rayrtc.metrics.redis_errors.inc()
                return failure(NoWorkerAvailable("the registry cannot be reached"))
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is left to read it
            except RequestValidationError as error:
                # the values are not sent back: they may be huge, or not encodable as JSON
                raise RequestValidationError(_brief(error.errors())) from None

        return handle


class ContractSocketRoute(APIWebSocketRoute):
    """A WebSocket route of ours; an application's own takes its place.

    A dependency that raises refuses the handshake with the status of its error, as over HTTP.
    Starlette would send no answer at all, and the server then 500.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], dependencies: Sequence[Depends]
    ) -> None:
        super().__init__(path, endpoint, dependencies=dependencies)
        serve = get_websocket_app(dependant=self.dependant)

        async def refusing(socket: WebSocket) -> None:
            try:
                await serve(socket)
            except (RayRTCError, HTTPException) as error:
                if socket.application_state is not WebSocketState.CONNECTING:
                    raise
                await socket.send_denial_response(_refusal(error))

        self.app = websocket_session(refusing)


def failure(error: RayRTCError) -> JSONResponse:
    """The answer to a client for `error`."""
    return JSONResponse(error.body(), error.status, error.headers())


def _refusal(error: RayRTCError | HTTPException) -> JSONResponse:
    if isinstance(error, RayRTCError):
        return failure(error)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def answer_failure(request: Request, error: Exception) -> Response:
    """Exception handler for the application's own routes that call a stream's methods."""
    assert isinstance(error, RayRTCError)
    return failure(error)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, and cancel it when the client goes away. The body must have been read.

    Raises:
        ClientDisconnect: the client went away first.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone away. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _brief(errors: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": error["type"],
            "loc": [part if isinstance(part, int) else part[:_KEY_MAX] for part in error["loc"]],
            "msg": error["msg"][:_MESSAGE_MAX],
        }
        for error in errors[:ERRORS_MAX]
    ]
