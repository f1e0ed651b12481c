"""Everything of the cluster that a control-plane process uses, opened and closed as one."""

import asyncio
import logging
import secrets
from types import TracebackType
from typing import Final, Self

from rayrtc.cluster.arrivals import Arrivals
from rayrtc.cluster.inputs import InputWriter
from rayrtc.cluster.models import ConnectionRecord
from rayrtc.cluster.outputs import OutputHub, append_lost
from rayrtc.cluster.places import Places
from rayrtc.cluster.reaper import Reaper
from rayrtc.cluster.redis import UNREACHABLE, Backoff, RedisPools
from rayrtc.cluster.redis_time import RedisTime
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

log = logging.getLogger(__name__)

REAP_INTERVAL: Final = 0.5
"""Seconds between two looks for lost workers."""
REAP_BACKLOG: Final = 10_000
"""Ended connections whose `end` waits for Redis; beyond that readers learn it from the record."""


class Cluster:
    """The registry, the inputs and the outputs, over the two Redis pools of this process.

    Opening does not need Redis: what does is retried. All is bound to the event loop of `open`.

    Args:
        reaps: look for lost workers, as replicas do.

    Attributes:
        pools: the connections.
        time: the one clock of the cluster.
        registry: leases, slots, records.
        candidate_arrivals, reader_arrivals: records that are not there yet.
        inputs: towards the workers.
        outputs: from the workers.
        places: where their readers stopped.
    """

    def __init__(self, settings: Settings, reaps: bool = True) -> None:
        self.settings = settings
        self._reaps = reaps
        self.pools = RedisPools(settings)
        self.time = RedisTime(self.pools.commands)
        self.registry = Registry(self.pools.commands, settings)
        self.candidate_arrivals = Arrivals(self.registry)
        self.reader_arrivals = Arrivals(self.registry)
        self.inputs = InputWriter(self.pools.commands, self.registry, settings, self.time)
        self.outputs = OutputHub(self.pools, self.registry, settings)
        self.places = Places(self.pools.commands, settings)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start the background tasks."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self.outputs.run(), name="output-hub"),
                asyncio.create_task(self.time.run(), name="redis-time"),
            ]
            if self._reaps:
                self._tasks.append(asyncio.create_task(reap_forever(self), name="reaper"))

    async def aclose(self) -> None:
        """End the background tasks and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.pools.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def reap_forever(cluster: Cluster) -> None:
    """Remove workers whose lease has ended and tell their connections' readers."""
    backoff = Backoff()
    reaper = Reaper(cluster.registry, cluster.settings)
    lost: list[ConnectionRecord] = []
    while True:
        try:
            lost = (lost + await reaper.reap())[-REAP_BACKLOG:]
            for record in lost:
                log.warning(
                    "connection lost with its worker",
                    extra={
                        "connection_id": record.connection_id,
                        "worker_id": record.worker_id,
                    },
                )
            await append_lost(cluster.pools.commands, cluster.settings, lost)
            lost = []
            backoff.reset()
            pause = REAP_INTERVAL
        except UNREACHABLE as error:
            if backoff.first:
                log.warning("looking for lost workers failed, trying again: %s", error)
            pause = max(REAP_INTERVAL, backoff.next())
        # Replicas take turns by chance instead of all at once.
        await asyncio.sleep(pause * (0.75 + secrets.randbelow(1000) / 2000))
