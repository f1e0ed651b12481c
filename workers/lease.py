"""Keeps a worker's lease: says every second that it lives and which connections it holds."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from rayrtc.cluster.models import Drain, EndReason, Lease, LiveConnection
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry

logger = logging.getLogger(__name__)

RELEASES_MAX = 4096
"""Ends that wait for Redis; of more, the oldest is dropped and its slot expires by itself."""


class Connections(Protocol):
    """What the renewal needs of the worker's connections."""

    def live(self) -> Sequence[LiveConnection]:
        """The connections that hold a slot."""

    async def close(self, connection_id: str, reason: EndReason) -> None:
        """End one connection."""


class LeaseRenewal:
    """Renews the lease of one worker.

    A renewal that fails is logged and tried again at the next turn: running calls do not need
    Redis, and when it is back, even empty, the next renewal brings back lease and connections.

    Args:
        describe: the lease as it is now.
        on_drain: told each time that the registry asks this worker to drain.
        interval: seconds between two renewals.
        deadline: seconds that one renewal may take.
    """

    def __init__(
        self,
        registry: Registry,
        connections: Connections,
        describe: Callable[[], Lease],
        on_drain: Callable[[Drain], None],
        interval: float,
        deadline: float,
    ) -> None:
        self._registry = registry
        self._connections = connections
        self._describe = describe
        self._on_drain = on_drain
        self._interval = interval
        self._deadline = deadline
        self._releases: dict[tuple[str, int], EndReason] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._soon = asyncio.Event()
        self.failures = 0
        """Renewals that failed, so far."""
        self._away = False
        self._stopping = False
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Renew until `stop`. Connections it is closing are let go of when cancelled."""
        try:
            while not self._stopping:
                self._soon.clear()
                await self._turn()
                try:
                    async with asyncio.timeout(self._interval):
                        await self._soon.wait()
                except TimeoutError:
                    pass
        finally:
            self._stopped.set()
            for task in self._closing.values():
                task.cancel()

    async def stop(self) -> None:
        """Renew no more. Returns when no renewal is under way: one would undo a withdrawal."""
        self._stopping = True
        self._soon.set()
        await self._stopped.wait()

    def renew_soon(self) -> None:
        """Do not wait for the next turn: the state has changed."""
        self._soon.set()

    async def renew(self) -> None:
        """One renewal; then closes what the registry says belongs to somebody else.

        Raises:
            RedisError, TimeoutError: Redis did not take it in time.
        """
        async with asyncio.timeout(self._deadline):
            lease = self._describe()  # measured also while Redis is away
            await self._release_waiting()
            held = self._connections.live()
            renewal = await self._registry.renew(lease, held)
        if renewal.drain is not None:
            self._on_drain(renewal.drain)
        now = self._connections.live()
        for connection_id, reason in renewal.conflicts.items():
            # with two sessions of one id here, the conflict is about the older, which is closing
            sessions = {c.session for c in (*held, *now) if c.connection_id == connection_id}
            if connection_id not in self._closing and len(sessions) == 1:
                logger.warning("not ours any more: %s", reason, extra=_about(connection_id))
                task = asyncio.create_task(self._connections.close(connection_id, reason))
                self._closing[connection_id] = task
                task.add_done_callback(partial(self._closed, connection_id))

    async def release(self, connection: LiveConnection, reason: EndReason) -> None:
        """Free the slot of a connection that has ended; later, if Redis is away."""
        key = (connection.connection_id, connection.session)
        self._releases[key] = reason
        if len(self._releases) > RELEASES_MAX:
            del self._releases[next(iter(self._releases))]
        try:
            async with asyncio.timeout(self._deadline):
                await self._registry.release(*key, reason)
        except UNREACHABLE as error:
            fields = _about(connection.connection_id)
            logger.info("the release waits for Redis: %s", error, extra=fields)
        else:
            self._releases.pop(key, None)

    async def _turn(self) -> None:
        try:
            await self.renew()
        except UNREACHABLE as error:
            self.failures += 1
            if not self._away:
                logger.warning("the lease is not renewed, trying on: %s", error or "no answer")
            self._away = True
        except Exception:
            # the calls of this worker must not end because of one bad answer
            self.failures += 1
            logger.exception("renewal of the lease failed")
        else:
            if self._away:
                logger.info("the lease is renewed again")
            self._away = False

    async def _release_waiting(self) -> None:
        for key, reason in list(self._releases.items()):
            await self._registry.release(*key, reason)
            self._releases.pop(key, None)

    def _closed(self, connection_id: str, task: "asyncio.Task[None]") -> None:
        self._closing.pop(connection_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("closing failed", exc_info=error, extra=_about(connection_id))


def _about(connection_id: str) -> dict[str, str]:
    """The fields of a log line."""
    return {"connection_id": connection_id}
