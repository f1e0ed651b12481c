"""The readers' side of the outputs: one Pub/Sub connection wakes all readers of a process.

An announcement says only that there is something; a reader takes its entries with XRANGE from its
own cursor. So a lost announcement loses nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from redis.asyncio.client import PubSub

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionState, OutputEntry
from rayrtc.cluster.output_reader import (
    END_GRACE,
    Gap,
    Heartbeat,
    OutputReader,
    Position,
    format_id,
    parse_cursor,
    to_entry,
)
from rayrtc.cluster.redis import UNREACHABLE, Backoff, RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConnectionClosed, OutputTimeout
from rayrtc.settings import Settings

log = logging.getLogger(__name__)

CHANNEL_BATCH: Final = 500
"""Channels in one SUBSCRIBE."""
PING_INTERVAL: Final = 5.0
"""Seconds between two signs of life asked of an idle Pub/Sub connection."""


class OutputHub:
    """All output readers of a process. `run` must be running for them to wake at once."""

    def __init__(self, pools: RedisPools, registry: Registry, settings: Settings) -> None:
        self._redis = pools.pages
        self._blocking = pools.blocking
        self._registry = registry
        self._settings = settings
        self._keys = Keys(settings.cluster)
        self._wakers: dict[str, set[asyncio.Event]] = {}
        self._changed = asyncio.Event()

    @property
    def readers(self) -> int:
        """Readers at this moment."""
        return sum(len(wakers) for wakers in self._wakers.values())

    async def read(
        self,
        connection_id: str,
        cursor: str | None = None,
        *,
        heartbeat: float,
        stream: str | None = None,
    ) -> AsyncGenerator[OutputEntry | Gap | Heartbeat, None]:
        """The outputs of a connection, each once and in order, until its end.

        The `end` of a session is given only when no newer one of the id is there: a reader goes on
        from one session to the next.

        Close the iterator (`aclose`) when done with it early.

        Args:
            cursor: id of the last entry the client has; None starts with the current session, and
                what was trimmed before such a reader came is no gap.
            heartbeat: seconds without anything after which a `Heartbeat` is given.
            stream: only a connection of this stream is known.

        Raises:
            UnknownConnection: no connection has this id (at the first step).
            RedisError, OSError: Redis is away (at the first step; later it is awaited).
        """
        record = await self._registry.known(connection_id, stream)
        with self._waker(connection_id) as waker:
            reader = OutputReader(self._redis, self._registry, self._settings, record, waker)
            async with aclosing(reader.items(cursor, heartbeat)) as items:
                async for item in items:
                    yield item

    async def latest(
        self,
        connection_id: str,
        after: str | None = None,
        timeout: float = 10.0,
        *,
        stream: str | None = None,
    ) -> OutputEntry:
        """The newest output of the current session; waits for the first one.

        Args:
            after: id of an entry; the output has to be newer than that.
            timeout: seconds.
            stream: only a connection of this stream is known.

        Raises:
            UnknownConnection: no connection has this id.
            ConnectionClosed: it ended without such an output.
            OutputTimeout: none came in time.
            RedisError, OSError: Redis is away.
        """
        # Only the waiting counts: with a timeout of 0 an output that is there is found.
        loop = asyncio.get_running_loop()
        record = await self._registry.known(connection_id, stream)
        floor: Position = (record.session, 0)
        if after is not None:
            floor = max(floor, parse_cursor(after) or floor)
        closed = record.state is ConnectionState.CLOSED
        ends = loop.time() + (min(timeout, END_GRACE) if closed else timeout)
        with self._waker(connection_id) as waker:
            while True:
                waker.clear()
                entry = await self._newest(connection_id, floor)
                if entry is not None:
                    return entry
                try:
                    async with asyncio.timeout_at(ends):
                        await waker.wait()
                except TimeoutError as error:
                    raise (ConnectionClosed if closed else OutputTimeout) from error

    async def _newest(self, connection_id: str, floor: Position) -> OutputEntry | None:
        rows: Any = await self._redis.xrevrange(
            self._keys.outputs(connection_id), "+", f"({format_id(floor)}", count=2
        )
        entries = [to_entry(entry_id, fields) for entry_id, fields in rows]
        for entry in entries:
            if entry.kind == "output":
                return entry
        if entries:
            raise ConnectionClosed
        return None

    @contextmanager
    def _waker(self, connection_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the connection may have new entries."""
        channel = self._keys.outputs(connection_id)
        waker = asyncio.Event()
        self._wakers.setdefault(channel, set()).add(waker)
        self._changed.set()
        try:
            yield waker
        finally:
            wakers = self._wakers[channel]
            wakers.discard(waker)
            if not wakers:
                del self._wakers[channel]
                self._changed.set()

    async def run(self) -> None:
        """Hold the Pub/Sub connection, for ever. Redis may go and come back."""
        backoff = Backoff()
        while True:
            pubsub = self._blocking.pubsub()
            try:
                await self._hold(pubsub, backoff)
            except* UNREACHABLE as errors:
                if backoff.first:
                    log.warning("announcements failed, trying again: %s", errors.exceptions[0])
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(backoff.next())

    async def _hold(self, pubsub: PubSub, backoff: Backoff) -> None:
        """Keep subscribed to what the readers need; the only one to write to the connection."""
        await pubsub.connect()  # type: ignore[no-untyped-call]
        subscribed: set[str] = set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(pubsub, backoff))
            while True:
                self._changed.clear()
                wanted = set(self._wakers)
                for method, channels in (
                    (pubsub.subscribe, list(wanted - subscribed)),
                    (pubsub.unsubscribe, list(subscribed - wanted)),
                ):
                    for start in range(0, len(channels), CHANNEL_BATCH):
                        await method(*channels[start : start + CHANNEL_BATCH])
                subscribed = wanted
                try:
                    async with asyncio.timeout(PING_INTERVAL):
                        await self._changed.wait()
                except TimeoutError:
                    await pubsub.ping()

    async def _listen(self, pubsub: PubSub, backoff: Backoff) -> None:
        """Wake the readers that a message is for; the only one to read from the connection."""
        while True:
            async with asyncio.timeout(3 * PING_INTERVAL):
                message = await pubsub.get_message(timeout=None)
            backoff.reset()
            # A confirmed subscription wakes as well: what was announced before it is read now.
            if message is not None and message["type"] in ("message", "subscribe"):
                for waker in self._wakers.get(message["channel"], ()):
                    waker.set()
