"""Finds workers whose leases have ended, but none that had nowhere to renew theirs."""

import time
from typing import Final

from rayrtc.cluster.models import ConnectionRecord
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

GAP: Final = 2.0
"""Seconds between two answers of Redis that mean that it was away; it is asked twice a second."""
BATCH: Final = 16
"""Lost workers that one script run removes: Redis serves nobody else meanwhile."""


class Reaper:
    """Reaps a worker once it has seen the lease ended without a break for as long as one lasts.

    When Redis comes back after it was away or frozen, when it has failed over to a replica or was
    started again from a snapshot, leases have ended whose workers are well. They renew them within
    `lease_interval`.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._patience = settings.lease_ttl
        self._answered = -GAP
        self._ended: dict[str, float] = {}
        """Since when the leases of workers have been seen ended."""

    async def reap(self) -> list[ConnectionRecord]:
        """As `Registry.reap`, of the workers that are due. To be called twice a second.

        Raises:
            RedisError, OSError: Redis is away.
        """
        try:
            ended = await self._registry.expired()
            now = time.monotonic()
            if now - self._answered > GAP:
                self._ended.clear()
            self._answered = now
            self._ended = {worker: self._ended.get(worker, now) for worker in ended}
            due = [w for w, since in self._ended.items() if now - since >= self._patience]
            return await self._registry.reap(due[:BATCH]) if due else []
        except UNREACHABLE:
            self._answered = -GAP
            raise
