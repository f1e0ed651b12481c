"""Inputs on their way from any process to the worker that holds the connection."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionRecord, ConnectionState, InputEntry
from rayrtc.cluster.redis import BLOCK_SECONDS, UNREACHABLE, Backoff, load_script
from rayrtc.cluster.redis_time import RedisTime
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConnectionClosed
from rayrtc.settings import Settings

log = logging.getLogger(__name__)

WORKER_INPUTS: Final = 4096
"""Entries kept for a worker that does not read; beyond that the oldest go."""
READ_COUNT: Final = 64
"""Entries taken in one read."""
MOVES: Final = 3
"""How often an input follows a connection that is moved while it is written."""


class InputWriter:
    """Sends inputs from this process to workers.

    Calls for one connection take effect in the order in which they were made here. All raise
    `redis.exceptions.RedisError` or `OSError` when Redis is away.
    """

    def __init__(
        self,
        redis: Redis,
        registry: Registry,
        settings: Settings,
        time: RedisTime | None = None,
    ) -> None:
        self._time = time
        self._redis = redis
        self._registry = registry
        self._keys = Keys(settings.cluster)
        self._ttl = round(settings.record_ttl * 1000)
        self._set_input = load_script(redis, "set_input")
        self._append_input = load_script(redis, "append_input")
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def set_input(
        self, connection_id: str, encoded_args: str, *, stream: str | None = None
    ) -> None:
        """Set a connection's inputs; they are kept for its next session too.

        Args:
            encoded_args: what `rayrtc.cluster.codec.encode` returned.
            stream: only a connection of this stream is known.

        Raises:
            UnknownConnection: no connection has this id.
            ConnectionClosed: it has ended.
        """
        at = self._time.now() if self._time is not None else None
        async with self._order.setdefault(connection_id, asyncio.Lock()):
            record = await self._open(connection_id, stream)
            seq: int = await self._set_input(
                keys=[self._keys.inputs(connection_id)], args=[encoded_args, self._ttl]
            )
            await self._send(record, kind="input", seq=seq, args=encoded_args, at=at)

    async def close_connection(self, connection_id: str, *, stream: str | None = None) -> None:
        """Ask the connection's worker to close it.

        Args:
            stream: only a connection of this stream is known.

        Raises:
            UnknownConnection: no connection has this id.
            ConnectionClosed: it has ended.
        """
        async with self._order.setdefault(connection_id, asyncio.Lock()):
            await self._send(await self._open(connection_id, stream), kind="close")

    async def last(self, connection_id: str) -> tuple[int, str] | None:
        """Number and encoded arguments of the last inputs, if any are kept."""
        seq, args = await self._redis.hmget(self._keys.inputs(connection_id), ["seq", "args"])
        if seq is None or args is None:
            return None
        return int(seq), str(args)

    async def _open(self, connection_id: str, stream: str | None) -> ConnectionRecord:
        record = await self._registry.known(connection_id, stream)
        if record.state is ConnectionState.CLOSED:
            raise ConnectionClosed
        return record

    async def _send(self, record: ConnectionRecord, **content: Any) -> None:
        for _ in range(MOVES):
            entry = InputEntry(
                connection_id=record.connection_id, session=record.session, **content
            )
            await self._append_input(
                keys=[self._keys.worker_inputs(record.worker_id)],
                args=[entry.model_dump_json(), WORKER_INPUTS, self._ttl],
            )
            # Moved to another worker between the look-up and the write: that one needs it.
            current = await self._registry.find(record.connection_id)
            if current is None or current.state is ConnectionState.CLOSED:
                return
            if current.session == record.session:
                return
            record = current


class InputReader:
    """The one blocking read of a worker process, for all its connections.

    An entry may be delivered again after a lost answer; `seq` tells.
    """

    def __init__(self, blocking: Redis, worker_id: str, settings: Settings) -> None:
        self._redis = blocking
        self._key = Keys(settings.cluster).worker_inputs(worker_id)
        self._cursor = "0-0"

    async def run(self, deliver: Callable[[InputEntry], None]) -> None:
        """Call `deliver` with each entry, for ever. Redis may go and come back."""
        backoff = Backoff()
        connected = False
        while True:
            try:
                if not connected:
                    await self._check_cursor()
                    connected = True
                answer: Any = await self._redis.xread(
                    {self._key: self._cursor}, count=READ_COUNT, block=round(BLOCK_SECONDS * 1000)
                )
                backoff.reset()
            except UNREACHABLE as error:
                if backoff.first:
                    log.warning("reading inputs failed, trying again: %s", error)
                connected = False
                await asyncio.sleep(backoff.next())
                continue
            for _, entries in answer:
                for entry_id, fields in entries:
                    self._deliver(fields, deliver)
                    self._cursor = entry_id
            if answer:
                connected = await self._trim()

    async def _check_cursor(self) -> None:
        """Start over when the stream is not the one that the cursor was read from."""
        try:
            info: Any = await self._redis.xinfo_stream(self._key)
        except ResponseError:  # no such key
            self._cursor = "0-0"
            return
        if _parts(info["last-generated-id"]) < _parts(self._cursor):
            self._cursor = "0-0"

    async def _trim(self) -> bool:
        """Give back the memory of what was delivered. Returns whether Redis answered."""
        try:
            await self._redis.xtrim(self._key, minid=self._cursor, approximate=False)
        except UNREACHABLE:
            return False
        return True

    def _deliver(self, fields: dict[str, str], deliver: Callable[[InputEntry], None]) -> None:
        try:
            entry = InputEntry.model_validate_json(fields["entry"])
        except (KeyError, ValidationError):
            log.warning("an input entry of another version was dropped")
            return
        try:
            deliver(entry)
        except Exception:
            log.exception(
                "delivering an input failed", extra={"connection_id": entry.connection_id}
            )


def _parts(entry_id: str) -> tuple[int, int]:
    first, _, second = entry_id.partition("-")
    return int(first), int(second)
