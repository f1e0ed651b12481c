"""The worker's internal HTTP server, which the control plane calls. Not for clients."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from rayrtc import log_fields, tracing
from rayrtc.cluster.models import (
    CandidateRequest,
    OfferRequest,
    ReleaseRequest,
    SocketAnswer,
    SocketRequest,
    WorkerRefusal,
    WorkerRequest,
)
from rayrtc.errors import RayRTCError
from workers.connections import Connections
from workers.frame_socket import FrameSocket

logger = logging.getLogger(__name__)

MAX_BODY: Final = 4 << 20
"""Bytes of a request: an offer carries up to `RAYRTC_PAYLOAD_MAX` of inputs."""
REQUEST_TIMEOUT: Final = 5.0
"""Seconds until the first frame of a WebSocket, and for closing it."""
STOP_TIMEOUT: Final = 2.0
"""Seconds that running requests are given when the server stops."""

M = TypeVar("M", bound=WorkerRequest)


class WorkerServer:
    """Serves offers, candidates and metrics.

    Args:
        connections: what the requests are for.
        secret: the cluster secret that requests carry as a bearer token (RFC 6750).
        metrics: gives the metrics in Prometheus' text format.
    """

    def __init__(self, connections: Connections, secret: str, metrics: Callable[[], bytes]) -> None:
        self._connections = connections
        self._authorization = f"Bearer {secret}".encode()
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self, bind: str, port: int = 0) -> int:
        """Listen on `bind`; the TCP port, a free one when `port` is 0.

        Raises:
            OSError: the address cannot be listened on.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        app.router.add_post("/v1/offer", self._offer)
        app.router.add_post("/v1/candidate", self._candidate)
        app.router.add_post("/v1/release", self._release)
        app.router.add_get("/v1/websocket", self._websocket)
        app.router.add_get("/v1/metrics", self._metrics_text)
        app.router.add_get("/v1/health", self._health)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT)
        await self._runner.setup()
        await web.TCPSite(self._runner, bind, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close all sockets."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Check the secret; turn errors into refusals. Goes on with the caller's trace."""
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._authorization):
            return _refusal("unauthorized", "the cluster secret is missing or wrong", 401)
        try:
            with tracing.continued(request.headers):
                return await handler(request)
        except RayRTCError as error:
            return _refusal(error.code, error.detail, error.status)
        except ValidationError as error:
            return _refusal("invalid_request", str(error.errors(include_input=False)), 422)
        except web.HTTPException as error:
            return _refusal("invalid_request", error.reason, error.status)

    async def _offer(self, request: web.Request) -> web.Response:
        answer = await self._connections.offer(await _read(request, OfferRequest))
        return _json(answer.model_dump_json())

    async def _candidate(self, request: web.Request) -> web.Response:
        await self._connections.candidate(await _read(request, CandidateRequest))
        return _json("{}")

    async def _release(self, request: web.Request) -> web.Response:
        body = await _read(request, ReleaseRequest)
        await self._connections.release(body.connection_id, body.session, body.reason)
        return _json("{}")

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Take a client's frames from the control plane: a `SocketRequest`, then as they are."""
        handshake = web.WebSocketResponse(compress=False)
        await handshake.prepare(request)
        assert request.transport is not None
        socket = FrameSocket(request.transport, MAX_BODY)
        try:
            first = await socket.first(REQUEST_TIMEOUT)
            wanted = _taken(SocketRequest.model_validate_json(first))
            await self._connections.serve(wanted, socket)
        except RayRTCError as error:
            _refuse(socket, error.code, error.detail)
        except ValidationError as error:
            _refuse(socket, "invalid_request", str(error.errors(include_input=False)))
        except (TimeoutError, ConnectionError):
            logger.warning("a WebSocket without a request")
        finally:
            await socket.close(REQUEST_TIMEOUT)
        return handshake

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _health(self, _: web.Request) -> web.Response:
        return _json("{}")


async def _read(request: web.Request, model: type[M]) -> M:
    return _taken(model.model_validate_json(await request.read()))


def _taken(request: M) -> M:
    """What is done for it says so in the log."""
    log_fields.add(request_id=request.request_id)
    return request


def _refuse(socket: FrameSocket, code: str, detail: str) -> None:
    refusal = WorkerRefusal(code=code, detail=detail)
    try:
        socket.send(SocketAnswer(refusal=refusal).model_dump_json().encode())
    except ConnectionError:
        logger.info("a refused WebSocket went away first")


def _json(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/json")


def _refusal(code: str, detail: str, status: int) -> web.Response:
    return _json(WorkerRefusal(code=code, detail=detail).model_dump_json(), status)
