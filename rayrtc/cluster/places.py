"""Where readers without a cursor of their own stopped, so that they go on there when they return.

A page's EventSource comes back after every cut, and again and again after the end of its
connection. Where its route sends no event ids, as in the specification's example, it cannot say
what it has.
"""

import asyncio
from typing import Any, Final

from redis.asyncio import Redis

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionRecord
from rayrtc.cluster.output_reader import parse_cursor
from rayrtc.settings import Settings

TTL: Final = 600
"""Seconds that a place is kept."""
PLACES_MAX: Final = 16
"""Places of one connection; the newest are kept."""


class Places:
    """The places of all connections, which any process may take."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.cluster)

    async def take(self, record: ConnectionRecord) -> str | None:
        """The id of the last output that a reader who left has had, for one new reader alone.

        None when nobody has left: the new reader is one beside those that are there. None as well
        for a reader of an earlier session of this id.
        """
        key = self._keys.places(record.connection_id)
        place: Any = await self._redis.lpop(key)
        position = parse_cursor(place) if place else None
        return place if position and position[0] >= record.session else None

    async def leave(self, connection_id: str, entry_id: str) -> None:
        """Note that a reader left after the output `entry_id`."""
        key = self._keys.places(connection_id)
        pushed: Any = self._redis.lpush(key, entry_id)
        trimmed: Any = self._redis.ltrim(key, 0, PLACES_MAX - 1)
        await asyncio.gather(pushed, trimmed, self._redis.expire(key, TTL))
