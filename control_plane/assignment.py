"""Finds a connection its worker: reserve a slot, ask the worker, move on when it does not answer.

Whatever happens on the way, the reservation is released: by the code here, or by its time to live
when this process dies.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from control_plane.worker_client import (
    WorkerClient,
    WorkerRefused,
    WorkerSilent,
    WorkerUnavailable,
)
from rayrtc import tracing
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import (
    ConnectionRequest,
    EndReason,
    OfferAnswer,
    OfferRequest,
    Reservation,
)
from rayrtc.cluster.outputs import append_end
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import InvalidSDP, NoWorkerAvailable, RayRTCError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Ask = Callable[[str, ConnectionRequest, float], Awaitable[T]]
"""Asks the worker at an address to take a connection, within so many seconds.

It raises `WorkerUnavailable` when another worker may be tried, and `RayRTCError` when not.
"""

ATTEMPTS = 3
"""Workers that are asked for one connection."""
RELEASE_TIMEOUT = 2.0
"""Seconds that giving up a reservation may take."""
MEDIA_SECTIONS_MAX = 32
"""Media sections of an offer that is passed on."""

_LINE = re.compile(r"[a-z]=[^\x00\r\n]*")
_MEDIA = re.compile(r"m=[^ ]+ [0-9]{1,5}(/[0-9]{1,5})? [A-Za-z0-9/]+ .+")


@dataclass(frozen=True)
class Assigned(Generic[T]):
    """A connection that a worker has taken."""

    answer: T
    session: int
    resumed: bool
    """Whether it took the place of a session that was reserved or live."""


class Assignment:
    """Assigns connections to workers.

    Args:
        cluster: counts the slots, and knows the inputs of an id that comes back.
        workers: reaches the workers.
        timeout: seconds from the offer to its answer, over all attempts.
    """

    def __init__(self, cluster: Cluster, workers: WorkerClient, timeout: float) -> None:
        self._cluster = cluster
        self._registry = cluster.registry
        self._inputs = cluster.inputs
        self._workers = workers
        self._timeout = timeout
        self._releases: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Finish the releases that are under way; each has its deadline."""
        while self._releases:
            await asyncio.wait(self._releases)

    async def offer(
        self,
        stream: str,
        limit: int,
        connection_id: str,
        sdp: str,
        resumed: int = 0,
    ) -> Assigned[OfferAnswer]:
        """The answer of the worker that took the connection.

        Args:
            limit: connections that the stream may have over the whole cluster.
            resumed: the session of this id that the client has shown to be its own; if it is the
                current one, the new one takes its place. It goes on when the offer's SDP cannot be
                one or no worker has a slot; after that it has ended, even if none answers.

        Raises:
            InvalidSDP, UnsupportedTrack: the offer cannot be answered.
            ConnectionAlreadyExists, ConcurrencyLimitReached: it is not admitted.
            NoWorkerAvailable: no slot is free, or no worker answered in time.
            RedisError: the registry cannot be reached.
        """
        check_sdp(sdp)

        async def ask(address: str, request: ConnectionRequest, timeout: float) -> OfferAnswer:
            offer = OfferRequest(**dict(request), sdp=sdp)
            return await self._workers.offer(address, offer, timeout)

        return await self.assign(stream, limit, connection_id, ask, resumed)

    async def assign(
        self,
        stream: str,
        limit: int,
        connection_id: str,
        ask: Ask[T],
        resumed: int = 0,
    ) -> Assigned[T]:
        """What the worker that took the connection answered to `ask`.

        Raises:
            RayRTCError: as `offer`, and what `ask` raises.
            RedisError: the registry cannot be reached.
        """
        try:
            with tracing.span("assign", stream=stream, limit=limit) as span:
                async with asyncio.timeout(self._timeout) as deadline:
                    reservation = await self._held(
                        self._registry.reserve(stream, limit, connection_id, resumed=resumed)
                    )
                    span.event("reserved", **_fields(reservation))
                    ends = deadline.when()
                    assert ends is not None
                    return await self._ask(reservation, ends, ask, span)
        except TimeoutError as error:
            raise NoWorkerAvailable("no worker answered in time") from error

    async def _ask(
        self, reservation: Reservation, ends: float, ask: Ask[T], span: tracing.Span
    ) -> Assigned[T]:
        """Ask up to `ATTEMPTS` workers; `ends` is the deadline on the loop's clock."""
        tried: list[str] = []
        refusal = ""
        told = False  # whether a worker may hold the connection although nobody waits for it
        replaced = reservation.replaced
        try:
            if replaced is not None:
                # whatever becomes of this offer, and of the task that waits
                await asyncio.wait({self._start(self._end_replaced(replaced))})
                span.event("replaced", **_fields(replaced))
            seq, inputs = await self._inputs.last(reservation.connection_id) or (0, None)
            while True:
                tried.append(reservation.worker_id)
                remaining = ends - asyncio.get_running_loop().time()
                told = True
                try:
                    with tracing.span("ask worker", "client", **_fields(reservation)):
                        answer = await ask(
                            reservation.address,
                            ConnectionRequest(
                                connection_id=reservation.connection_id,
                                session=reservation.session,
                                stream=reservation.stream,
                                inputs=inputs,
                                inputs_seq=seq,
                            ),
                            # a worker that hangs must leave time to ask the next
                            remaining if len(tried) == ATTEMPTS else remaining / 2,
                        )
                except WorkerUnavailable as error:
                    told = isinstance(error, WorkerSilent)
                    _log(logging.WARNING, f"connection not taken: {error}", reservation)
                    span.event("not taken", why=str(error), **_fields(reservation))
                    if isinstance(error, WorkerRefused):
                        refusal = error.detail
                    if len(tried) == ATTEMPTS:
                        raise NoWorkerAvailable(
                            refusal or f"{ATTEMPTS} workers did not answer"
                        ) from error
                except RayRTCError:
                    told = False
                    raise
                else:
                    _log(logging.INFO, "connection taken", reservation)
                    return Assigned(answer, reservation.session, replaced is not None)
                if told:
                    self._start(self._release_there(reservation))
                    told = False
                try:
                    reservation = await self._held(self._registry.move(reservation, tried))
                except NoWorkerAvailable as error:
                    raise NoWorkerAvailable(refusal or error.detail) from error
                span.event("moved", **_fields(reservation))
        except BaseException as error:
            released = self._start(self._give_up(reservation, told))
            if not isinstance(error, asyncio.CancelledError):
                # the client may try again with the same id as soon as it has its answer
                await asyncio.wait({released}, timeout=RELEASE_TIMEOUT)
            raise

    async def _held(self, reserving: Coroutine[Any, Any, Reservation]) -> Reservation:
        """The reservation; when cancelled meanwhile, what it will have reserved is released."""
        task = asyncio.create_task(reserving)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._start(self._release_late(task))
            raise

    async def _release_late(self, reserving: "asyncio.Task[Reservation]") -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                reservation = await reserving
        except Exception as error:
            logger.info("an abandoned reservation failed: %s", error)
            return
        await self._give_up(reservation, False)

    async def _give_up(self, reservation: Reservation, told: bool) -> None:
        """Free the slot, and have the worker forget the connection when it may know it."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._registry.release(
                    reservation.connection_id, reservation.session, EndReason.REFUSED
                )
        except Exception as error:
            # the reservation's time to live frees the slot
            _log(logging.WARNING, f"release failed: {error!r}", reservation)
        if told:
            await self._release_there(reservation)

    async def _end_replaced(self, replaced: Reservation) -> None:
        """Have a session end whose place was taken. When this returns it has, if it can be told."""
        _log(logging.INFO, "connection replaced", replaced)
        await self._release_there(replaced, EndReason.REPLACED)
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                # a worker that is gone writes none, and readers would take its absence for a gap
                await append_end(
                    self._cluster.pools.commands,
                    self._cluster.settings,
                    replaced.connection_id,
                    replaced.session,
                    EndReason.REPLACED,
                )
        except UNREACHABLE as error:
            _log(logging.WARNING, f"the end was not written: {error!r}", replaced)

    async def _release_there(
        self, reservation: Reservation, reason: EndReason = EndReason.REFUSED
    ) -> None:
        try:
            await self._workers.release(
                reservation.address,
                reservation.connection_id,
                reservation.session,
                reason,
                RELEASE_TIMEOUT,
            )
        except (RayRTCError, WorkerUnavailable) as error:
            # its next lease renewal tells the worker that the session is not its own
            _log(logging.INFO, f"worker did not release: {error}", reservation)

    def _start(self, release: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(release)
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task


def check_sdp(sdp: str) -> None:
    """Refuse what cannot be an offer before a slot is reserved for it; the worker looks closer.

    Raises:
        InvalidSDP: no session description (RFC 8866, 5) that offers ICE and DTLS (RFC 9429, 5.2.1).
    """
    lines = sdp.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines[0] != "v=0":
        raise InvalidSDP("a session description begins with v=0")
    for number, line in enumerate(lines, 1):
        if not _LINE.fullmatch(line):
            raise InvalidSDP(f"line {number} is not of the form TYPE=VALUE")
    kinds = {line[0] for line in lines}
    if not {"o", "s", "t"} <= kinds:
        raise InvalidSDP("o=, s= or t= is missing")
    media = [line for line in lines if line.startswith("m=")]
    if not 1 <= len(media) <= MEDIA_SECTIONS_MAX:
        raise InvalidSDP(f"an offer has 1 to {MEDIA_SECTIONS_MAX} media sections")
    for line in media:
        if not _MEDIA.fullmatch(line):
            raise InvalidSDP("a media section is malformed")
    for attribute in ("ice-ufrag", "ice-pwd", "fingerprint"):
        if not any(line.startswith(f"a={attribute}:") for line in lines):
            raise InvalidSDP(f"a={attribute} is missing")


def _log(level: int, text: str, reservation: Reservation) -> None:
    logger.log(level, text, extra=_fields(reservation))


def _fields(reservation: Reservation) -> dict[str, str | int]:
    """Of a log line, and of an event in a trace."""
    return {
        "connection_id": reservation.connection_id,
        "session": reservation.session,
        "worker_id": reservation.worker_id,
        "stream": reservation.stream,
    }
