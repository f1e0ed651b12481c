"""Finds workers whose leases have ended, but none that had nowhere to renew theirs."""

import time
from typing import Final

from rayrtc.cluster.models import ConnectionRecord
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

GAP: Final = 2.0
"""Seconds between two answers of Redis that mean that it was away; it is asked twice a second."""


class Reaper:
    """Reaps once Redis has answered without a break for as long as a lease lasts.

    While it was away, frozen or failing over, leases ran out whose workers are well; they renew
    them within `lease_interval` of its return.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._patience = settings.lease_ttl + settings.lease_interval
        self._answered = -GAP
        self._steady_since = 0.0

    async def reap(self) -> list[ConnectionRecord]:
        """As `Registry.reap`; nothing while Redis has not been there for long enough.

        Raises:
            RedisError, OSError: Redis is away.
        """
        try:
            await self._registry.ping()
            now = time.monotonic()
            if now - self._answered > GAP:
                self._steady_since = now
            self._answered = now
            if now - self._steady_since < self._patience:
                return []
            return await self._registry.reap()
        except UNREACHABLE:
            self._answered = -GAP
            raise
