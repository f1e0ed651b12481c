"""Waiting for connections on their way: what a client sends at once may overtake its offer."""

import asyncio
from typing import Final

from rayrtc.cluster.models import ConnectionRecord
from rayrtc.cluster.registry import Registry
from rayrtc.errors import UnknownConnection

FIRST_DELAY: Final = 0.05
"""Seconds before the registry is asked again for a connection that it did not know."""
DELAY_GROWTH: Final = 1.6
DELAY_MAX: Final = 1.0
WAITING_MAX: Final = 256
"""Requests of one process that wait; further ones are told at once."""


class Arrivals:
    """All waiting of one process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting = 0

    async def known(self, connection_id: str, stream: str, seconds: float) -> ConnectionRecord:
        """`Registry.known`, waiting `seconds` for a connection that is on its way.

        Raises:
            UnknownConnection: it did not come, is another stream's, or too many are awaited.
            RedisError: the registry cannot be reached.
        """
        try:
            record = await self._registry.known(connection_id)
        except UnknownConnection:
            record = await self._wait(connection_id, seconds)
        if record.stream != stream:
            raise UnknownConnection
        return record

    async def _wait(self, connection_id: str, seconds: float) -> ConnectionRecord:
        if self._waiting >= WAITING_MAX:
            raise UnknownConnection
        self._waiting += 1
        try:
            delay, left = FIRST_DELAY, seconds
            while left > 0:
                await asyncio.sleep(min(delay, left))
                if (record := await self._registry.find(connection_id)) is not None:
                    return record
                left -= delay
                delay = min(delay * DELAY_GROWTH, DELAY_MAX)
        finally:
            self._waiting -= 1
        raise UnknownConnection
