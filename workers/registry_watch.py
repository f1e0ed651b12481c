"""The supervisor's view of the registry in Redis, which may be away while the pool is kept."""

import asyncio
import logging

from rayrtc.cluster.models import EndReason
from rayrtc.cluster.redis import UNREACHABLE, RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.lost_workers import LostWorkers
from workers.nodes import Nodes

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 0.5
"""Seconds between two looks at the registry."""
RECALL_TIMEOUT = 2.0
"""Seconds that the first workers of a pool wait for Redis."""


class RegistryWatch:
    """Withdraws the workers that are gone, and sees which nodes were asked to drain.

    Attributes:
        leases: the workers that live, as the registry has it; None while Redis is away.
    """

    def __init__(self, settings: Settings, nodes: Nodes) -> None:
        self._pools = RedisPools(settings)
        self._registry = Registry(self._pools.commands, settings)
        self._lost = LostWorkers(self._registry, self._pools.commands, settings)
        self._nodes = nodes
        self.leases: set[str] | None = None

    async def recall_drains(self) -> None:
        """Which nodes were asked to drain before this process began, if Redis can tell."""
        try:
            async with asyncio.timeout(RECALL_TIMEOUT):
                await self._nodes.look_for_drains(self._registry)
        except UNREACHABLE as error:
            logger.warning("whether nodes drain is not known yet: %s", error or "no answer")

    async def gone(self, worker_id: str, reason: EndReason) -> None:
        """A worker has ended: its slots are free, its callers are told `reason`; if Redis is away
        as soon as it is back."""
        self._lost.add(worker_id, reason)
        await self._lost.withdraw()

    async def run(self) -> None:
        """Look for ever."""
        away = False
        while True:
            try:
                await self._lost.reap()
                self.leases = {status.worker_id for status in await self._registry.workers()}
                await self._nodes.look_for_drains(self._registry)
                away = False
            except UNREACHABLE as error:
                self.leases = None
                if not away:
                    logger.warning("Redis is away: %s", error)
                away = True
            except Exception:
                logger.exception("looking after the registry failed")
            await asyncio.sleep(LOOK_INTERVAL)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._pools.aclose()
