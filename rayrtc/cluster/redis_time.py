"""Redis' clock as this process knows it: what two hosts measure together is told by one clock."""

import asyncio
import logging
import math
import time
from typing import Final

from redis.asyncio import Redis

from rayrtc.cluster.redis import UNREACHABLE

log = logging.getLogger(__name__)

INTERVAL: Final = 10.0
"""Seconds between two comparisons; another server may have taken over meanwhile."""
SAMPLES: Final = 3
"""Answers of one comparison, of which the quickest counts: it is the most exact."""
RELAY_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds of the histograms of what goes from one host through Redis to another."""


class RedisTime:
    """Follows the clock of Redis by comparing it with the monotonic clock of this host.

    It is exact to half of the time that the quickest of three answers took, as in NTP: less than a
    millisecond in one network.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._offset: float | None = None

    def now(self) -> int | None:
        """Unix time of Redis in ms; None before it was compared."""
        if self._offset is None:
            return None
        return round((time.monotonic() + self._offset) * 1000)

    def since(self, then: int | None) -> float | None:
        """Seconds since a time that this or another process was given by `now`, 0 at least."""
        now = self.now()
        return None if now is None or then is None else max(0, now - then) / 1000

    async def run(self) -> None:
        """Compare again and again, for ever. While Redis is away, what is known stays."""
        while True:
            try:
                await self._compare()
            except UNREACHABLE as error:
                log.debug("the clock of Redis is not known: %s", error)
            await asyncio.sleep(INTERVAL if self._offset is not None else INTERVAL / 10)

    async def _compare(self) -> None:
        quickest, offset = math.inf, 0.0
        for _ in range(SAMPLES):
            asked = time.monotonic()
            seconds, microseconds = await self._redis.time()
            took = time.monotonic() - asked
            if took < quickest:
                quickest, offset = took, seconds + microseconds / 1e6 - asked - took / 2
        # what is known stays when the answers took too long to tell better
        if self._offset is None or abs(offset - self._offset) > quickest / 2:
            self._offset = offset
