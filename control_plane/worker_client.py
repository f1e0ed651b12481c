"""Calls to the workers' internal HTTP server, at the address in their leases."""

import asyncio
from typing import Final

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    TCPConnector,
)
from pydantic import BaseModel, ValidationError

from control_plane.worker_socket import WorkerSocket, open_worker_socket
from rayrtc import tracing
from rayrtc.cluster.models import (
    CandidateRequest,
    EndReason,
    OfferAnswer,
    OfferRequest,
    ReleaseRequest,
    SocketAnswer,
    SocketRequest,
    WorkerRefusal,
)
from rayrtc.errors import (
    ConnectionAlreadyExists,
    ConnectionClosed,
    InvalidCandidate,
    InvalidSDP,
    RayRTCError,
    TooLarge,
    UnknownConnection,
    UnsupportedTrack,
)

CONNECTIONS_MAX = 1024
"""Sockets to all workers; further calls wait for one within their deadline."""
IDLE_TIMEOUT = 10.0
"""Seconds that an unused socket is kept; less than the server keeps it."""

SOCKET_PATH = "/v1/websocket"
HEARTBEAT = 10.0
"""Seconds between the pings that find a worker which has vanished."""
CLOSE_TIMEOUT = 2.0
"""Seconds that closing a WebSocket may take."""
FRAME_MAX = 1 << 20
"""Bytes of a worker's frame."""

_TOLD_TO_CLIENT: Final[dict[str, type[RayRTCError]]] = {
    error.code: error
    for error in (
        ConnectionAlreadyExists,
        ConnectionClosed,
        InvalidCandidate,
        InvalidSDP,
        TooLarge,
        UnknownConnection,
        UnsupportedTrack,
    )
}


class WorkerUnavailable(Exception):
    """The worker did not do what was asked, and it is not the client's fault."""


class WorkerSilent(WorkerUnavailable):
    """No usable answer: the worker may have done it all the same."""


class WorkerRefused(WorkerUnavailable):
    """The worker said no: it is full, drains, does not take our secret, or has no handler.

    `detail` is its reason, fit for clients.
    """

    def __init__(self, url: str, code: str, detail: str) -> None:
        super().__init__(f"{url}: {code} {detail}")
        self.detail = detail


class WorkerClient:
    """One HTTP client for all workers; made on the running event loop.

    Args:
        secret: the cluster secret, sent as a bearer token (RFC 6750, 2.1).
    """

    def __init__(self, secret: str) -> None:
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._session = ClientSession(
            connector=TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_TIMEOUT),
            headers={**self._headers, "Content-Type": "application/json"},
            auto_decompress=False,
        )

        # WebSockets live long, and must not take the places of requests; the slots bound them
        self._sockets = ClientSession(connector=TCPConnector(limit=0), headers=self._headers)

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._session.close()
        await self._sockets.close()

    async def offer(self, address: str, request: OfferRequest, timeout: float) -> OfferAnswer:
        """Have a worker answer an offer, within `timeout` seconds.

        Raises:
            InvalidSDP, UnsupportedTrack, ConnectionAlreadyExists: told by the worker.
            WorkerRefused, WorkerSilent: another worker may be tried.
        """
        answer = await self._post(address + "/v1/offer", request, timeout)
        try:
            return OfferAnswer.model_validate_json(answer)
        except ValidationError as error:
            raise WorkerSilent(f"{address}: no answer in the response") from error

    async def open_socket(
        self, address: str, request: SocketRequest, timeout: float
    ) -> ClientWebSocketResponse:
        """A WebSocket to the worker that has taken the connection, within `timeout` seconds.

        Raises:
            ConnectionAlreadyExists, ConnectionClosed: told by the worker.
            WorkerRefused, WorkerSilent: another worker may be tried.
        """
        url = address + SOCKET_PATH
        socket: ClientWebSocketResponse | None = None
        taken = False
        try:
            async with asyncio.timeout(timeout):
                socket = await self._sockets.ws_connect(
                    url,
                    timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                    heartbeat=HEARTBEAT,
                    compress=0,
                    max_msg_size=FRAME_MAX,
                    headers=tracing.headers(),
                )
                await socket.send_str(request.model_dump_json())
                answer = SocketAnswer.model_validate_json(await socket.receive_str())
            taken = answer.refusal is None
        except (TimeoutError, ClientError, OSError, ValueError, TypeError) as error:
            raise WorkerSilent(f"{url}: {error or type(error).__name__}") from error
        finally:
            if socket is not None and not taken:
                await socket.close()
        if answer.refusal is not None:
            raise _refused(url, answer.refusal)
        return socket

    async def open_spliced(
        self, address: str, request: SocketRequest, timeout: float
    ) -> WorkerSocket:
        """`open_socket` for a client whose bytes are passed on as they come."""
        url = address + SOCKET_PATH
        socket: WorkerSocket | None = None
        taken = False
        try:
            async with asyncio.timeout(timeout):
                headers = {**self._headers, **tracing.headers()}
                socket = await open_worker_socket(url, headers, request.model_dump_json())
                answer = SocketAnswer.model_validate_json(await socket.answer)
            taken = answer.refusal is None
        except (TimeoutError, OSError, ValueError) as error:
            raise WorkerSilent(f"{url}: {error or type(error).__name__}") from error
        finally:
            if socket is not None and not taken:
                socket.transport.close()
        if answer.refusal is not None:
            raise _refused(url, answer.refusal)
        return socket

    async def candidate(self, address: str, request: CandidateRequest, timeout: float) -> None:
        """Hand a worker a remote candidate.

        Raises:
            InvalidCandidate, UnknownConnection, ConnectionClosed, TooLarge: told by the worker.
            WorkerRefused, WorkerSilent: it does not answer.
        """
        await self._post(address + "/v1/candidate", request, timeout)

    async def release(
        self, address: str, connection_id: str, session: int, reason: EndReason, timeout: float
    ) -> None:
        """Have a worker end a session; `refused` when it was given up here.

        Raises:
            RayRTCError, WorkerUnavailable: it does not have it, or does not answer.
        """
        request = ReleaseRequest(connection_id=connection_id, session=session, reason=reason)
        await self._post(address + "/v1/release", request, timeout)

    async def _post(self, url: str, message: BaseModel, timeout: float) -> bytes:
        try:
            async with self._session.post(
                url,
                data=message.model_dump_json().encode(),
                headers=tracing.headers(),
                timeout=ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (TimeoutError, ClientError, OSError, ValueError) as error:
            raise WorkerSilent(f"{url}: {error or type(error).__name__}") from error
        if response.status == 200:
            return body
        try:
            refusal = WorkerRefusal.model_validate_json(body)
        except ValidationError as error:
            raise WorkerSilent(f"{url}: status {response.status}") from error
        raise _refused(url, refusal)


def _refused(url: str, refusal: WorkerRefusal) -> RayRTCError | WorkerRefused:
    if (told := _TOLD_TO_CLIENT.get(refusal.code)) is not None:
        return told(refusal.detail)
    return WorkerRefused(url, refusal.code, refusal.detail)
