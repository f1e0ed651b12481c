"""All connections of a worker, and what arrives for one before or after its time."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager

from aiortc import RTCConfiguration
from prometheus_client import Counter

from rayrtc import log_fields, tracing
from rayrtc.cluster.models import (
    CandidateRequest,
    ConnectionRequest,
    EndReason,
    InputEntry,
    LiveConnection,
    OfferAnswer,
    OfferRequest,
    SocketRequest,
)
from rayrtc.errors import (
    ConnectionAlreadyExists,
    ConnectionClosed,
    RayRTCError,
    UnknownConnection,
)
from rayrtc.settings import Settings
from rayrtc.stream import Stream
from rayrtc.turn_secret import worker_ice_servers
from workers import patches
from workers.connection import Connection, Outputs, Refused
from workers.frame_socket import FrameSocket
from workers.ice import parse_candidate, rtc_configuration
from workers.telephone import Telephone
from workers.transport import Events, Log, TransportFactory
from workers.udp_mux import UDPMux
from workers.webrtc import WebRTC
from workers.websocket import WebSocket

logger = logging.getLogger(__name__)

CANDIDATE_WAIT = 3.0
"""Seconds that a candidate waits for an offer that it has overtaken."""
MAX_WAITING = 256
"""Candidates waiting at a time; further ones are answered at once."""
EARLY_INPUTS_TTL = 5.0
"""Seconds that inputs are kept for a connection whose offer is still on its way."""
MAX_EARLY_INPUTS = 256
"""Connections with such inputs; then the oldest is dropped."""
MAX_ENDED = 4096
"""Ended sessions remembered, so that what is late for them is told so."""
ON_END_TIMEOUT = 5.0
RELEASE_WAIT = 1.5
"""Seconds that the control plane waits for the end of a session; it goes on afterwards."""

refused = Counter("rayrtc_worker_offers_refused_total", "Offers refused, by code.", ["code"])


class Connections:
    """Opens, finds and closes the connections of this process.

    Attributes:
        accepting: whether offers are taken; False while the worker drains.
        sessions: connections answered so far.

    Args:
        streams: by name.
        outputs: where outputs and ends are written.
        on_end: called once for each connection that was answered, after all of it is released.
        udp_mux: the port that WebRTC connections share; its owner's to close.

    Raises:
        ValueError: the `server_rtc_configuration` of a stream is not usable.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        settings: Settings,
        outputs: Outputs,
        on_end: Callable[[LiveConnection, EndReason], Awaitable[None]],
        udp_mux: UDPMux,
    ) -> None:
        patches.apply()
        self.accepting = True
        self.sessions = 0
        self._streams = streams
        self._settings = settings
        self._outputs = outputs
        self._on_end = on_end
        self._udp_mux = udp_mux
        for stream in streams.values():
            self._configuration(stream)  # what is wrong is found now, not at the first offer
        self._connections: dict[str, Connection] = {}
        """By id; of two sessions of one id, the newer."""
        self._open: set[Connection] = set()
        """All that still hold something."""
        self._ended: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._early: OrderedDict[tuple[str, int], tuple[float, InputEntry]] = OrderedDict()
        self._waiting = 0
        self._arrived = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._open)

    def live(self) -> list[LiveConnection]:
        """What the worker's lease renews: all that still hold a slot."""
        return [connection.live for connection in self._open]

    async def offer(self, request: OfferRequest) -> OfferAnswer:
        """Answer an offer. The same session again gets the same answer.

        Raises:
            InvalidSDP, UnsupportedTrack: the offer cannot be answered.
            Refused: this worker takes none now.
            ConnectionAlreadyExists: a newer session of this id is here.
            ConnectionClosed: this session has ended.
        """
        try:
            with _answering(request):
                connection = self._find(request)
                if connection is None:
                    connection = await self._open_connection(request, self._webrtc(request))
                    answer = await connection.answer()
                    self.sessions += 1
                else:
                    answer = await connection.answer()
            return OfferAnswer(sdp=answer)
        except RayRTCError as error:
            refused.labels(error.code).inc()
            raise

    async def serve(self, request: SocketRequest, socket: FrameSocket) -> None:
        """Serve the client behind a WebSocket until its end.

        Raises:
            Refused, ConnectionAlreadyExists, ConnectionClosed: as `offer`; nothing was sent.
        """
        try:
            with _answering(request):
                if self._find(request) is not None:
                    raise ConnectionAlreadyExists
                transport = _socket_transport(request, socket)
                connection = await self._open_connection(request, transport)
                await connection.answer()
                self.sessions += 1
        except RayRTCError as error:
            refused.labels(error.code).inc()
            raise
        await asyncio.shield(connection.task)

    async def candidate(self, request: CandidateRequest) -> None:
        """Take a trickled candidate, which may be here before its offer.

        Raises:
            InvalidCandidate: it cannot be parsed.
            UnknownConnection: no offer of this id came in time.
            ConnectionClosed: the connection has ended.
            TooLarge: it has its most.
        """
        log_fields.add(connection_id=request.connection_id)
        candidate = parse_candidate(request.candidate)
        connection = self._connections.get(request.connection_id)
        if connection is None:
            connection = await self._wait_for(request.connection_id)
        await connection.add_candidate(candidate)

    def deliver(self, entry: InputEntry) -> None:
        """Take an entry of the worker's input stream. Called on the loop."""
        connection = self._connections.get(entry.connection_id)
        key = (entry.connection_id, entry.session)
        with log_fields.added(request_id=entry.request_id, connection_id=entry.connection_id):
            if connection is not None and connection.session >= entry.session:
                connection.deliver(entry)
            elif key not in self._ended:
                self._keep_early(key, entry)

    async def close(self, connection_id: str, reason: EndReason) -> None:
        """Close a connection if it is here, and wait until it is released."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            connection.close(reason)
            await asyncio.shield(connection.task)

    async def release(
        self, connection_id: str, session: int, reason: EndReason = EndReason.REFUSED
    ) -> None:
        """The session is over for the control plane: close it, or refuse it if it comes late.

        One that was given up before its client had an answer (`refused`) is not waited for. The
        others are, 1.5 s at most, until they are released and readers can have all that they put
        out: a session that takes the place may put out something at once.
        """
        connection = self._connections.get(connection_id)
        if connection is None or connection.session != session:
            self._remember((connection_id, session))
            return
        log_fields.add(connection_id=connection_id, session=session, stream=connection.live.stream)
        logger.info("released: %s", reason)
        connection.close(reason)
        if reason is not EndReason.REFUSED:
            try:
                async with asyncio.timeout(RELEASE_WAIT):
                    await asyncio.shield(connection.task)
                    if connection.end_written is not None:
                        await asyncio.shield(connection.end_written)
            except TimeoutError:
                logger.info("still closing")

    async def close_all(self, reason: EndReason, timeout: float) -> None:
        """Take no more offers and close all connections.

        After `timeout` seconds what is left is cancelled; it is given as long again to release.
        """
        self.accepting = False
        for connection in self._open:
            connection.close(reason)
        for _ in range(2):
            tasks = [connection.task for connection in self._open]
            if not tasks:
                return
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()

    def _find(self, request: ConnectionRequest) -> Connection | None:
        """The connection of this session, None when it is to be opened."""
        present = self._connections.get(request.connection_id)
        if present is not None and present.session == request.session:
            return present
        if (request.connection_id, request.session) in self._ended:
            raise ConnectionClosed
        if present is not None and present.session > request.session:
            raise ConnectionAlreadyExists
        return None

    def _webrtc(self, request: OfferRequest) -> TransportFactory:
        def make(events: Events, log: Log) -> WebRTC:
            stream = self._streams[request.stream]
            configuration = self._configuration(stream)
            return WebRTC(
                request.sdp, stream, self._settings, configuration, self._udp_mux, events, log
            )

        return make

    def _configuration(self, stream: Stream) -> RTCConfiguration:
        """For one connection: a worker lives longer than TURN credentials are valid."""
        added = worker_ice_servers(self._settings)
        return rtc_configuration(stream.server_rtc_configuration, added)

    async def _open_connection(
        self, request: ConnectionRequest, transport: TransportFactory
    ) -> Connection:
        stream = self._streams.get(request.stream)
        if stream is None:
            raise Refused("this worker does not have the stream")
        if not self.accepting:
            raise Refused("the worker is draining")
        if len(self) >= self._settings.slots:
            raise Refused("all slots of the worker are in use")
        present = self._connections.get(request.connection_id)
        if present is not None:
            # the registry gave the id away, so this one is over for the cluster
            present.close(EndReason.REPLACED)
        connection = Connection(
            request,
            stream,
            self._settings,
            transport,
            self._outputs,
            self._connection_ended,
        )
        self._open.add(connection)
        self._connections[request.connection_id] = connection
        if (early := self._early.pop((connection.id, connection.session), None)) is not None:
            connection.deliver(early[1])
        async with self._arrived:
            self._arrived.notify_all()
        return connection

    async def _wait_for(self, connection_id: str) -> Connection:
        if self._was_here(connection_id):
            raise ConnectionClosed
        if self._waiting >= MAX_WAITING:
            raise UnknownConnection
        self._waiting += 1
        try:
            async with asyncio.timeout(CANDIDATE_WAIT), self._arrived:
                await self._arrived.wait_for(lambda: connection_id in self._connections)
                return self._connections[connection_id]
        except TimeoutError:
            raise UnknownConnection from None
        finally:
            self._waiting -= 1

    def _was_here(self, connection_id: str) -> bool:
        return any(known == connection_id for known, _ in reversed(self._ended))

    def _keep_early(self, key: tuple[str, int], entry: InputEntry) -> None:
        now = asyncio.get_running_loop().time()
        while self._early:
            oldest, (arrival, _) = next(iter(self._early.items()))
            if len(self._early) < MAX_EARLY_INPUTS and now - arrival < EARLY_INPUTS_TTL:
                break
            del self._early[oldest]
        kept = self._early.get(key)
        if kept is None or (kept[1].kind == "input" and entry.seq >= kept[1].seq):
            self._early[key] = (now, entry)

    async def _connection_ended(self, connection: Connection, reason: EndReason) -> None:
        self._remember((connection.id, connection.session))
        if reason is not EndReason.REFUSED:
            try:
                async with asyncio.timeout(ON_END_TIMEOUT):
                    await self._on_end(connection.live, reason)
            except Exception:
                # the registry learns of it when the lease is renewed without this connection
                logger.exception("end not reported", extra={"connection_id": connection.id})
        self._open.discard(connection)
        if self._connections.get(connection.id) is connection:
            del self._connections[connection.id]

    def _remember(self, key: tuple[str, int]) -> None:
        self._ended[key] = None
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)


def _answering(request: ConnectionRequest) -> AbstractContextManager[tracing.Span]:
    """The part of a trace from a request to its answer; the connection's own is inside of it."""
    return tracing.span(
        "answer",
        "server",
        connection_id=request.connection_id,
        session=request.session,
        stream=request.stream,
        request_id=request.request_id,
    )


def _socket_transport(request: SocketRequest, socket: FrameSocket) -> TransportFactory:
    def make(events: Events, log: Log) -> WebSocket:
        if request.transport == "telephone":
            return Telephone(request.connection_id, socket, events, log)
        return WebSocket(socket, events, log)

    return make
