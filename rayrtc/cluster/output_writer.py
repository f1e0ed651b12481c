"""The worker's side of the outputs: they are queued here and written to Redis in the background."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionRecord, EndReason
from rayrtc.cluster.redis import UNREACHABLE, Backoff, load_script, script_text
from rayrtc.cluster.redis_time import RedisTime
from rayrtc.settings import Settings

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = 16 << 20
"""Characters of outputs that one connection may have queued; beyond that the oldest go."""
WRITE_ENTRIES: Final = 32
"""Outputs in one write, shared by the connections, of each of which there is one at least: what an
absence of Redis has left must not hold up the event loop, which has audio to send."""
BATCH_BYTES: Final = 4 << 20
"""Characters of outputs in one write, if it has more than one."""


@dataclass(slots=True)
class _Entry:
    number: int
    kind: Literal["output", "end"]
    data: str
    at: int | None
    """Redis' time when it was queued, Unix ms."""
    written: "asyncio.Future[bool]"


@dataclass(slots=True)
class _Queue:
    """What one session has not written yet."""

    connection_id: str
    session: int
    entries: deque[_Entry] = field(default_factory=deque)
    size: int = 0
    last: int = 0
    """Number of the last entry; a session's first is 1."""
    deadline: float | None = None
    """Loop time at which an ended session's rest is given up; None before its end."""

    def drop_oldest(self) -> None:
        entry = self.entries.popleft()
        self.size -= len(entry.data)
        _settle(entry, False)


@dataclass(slots=True)
class _Batch:
    queue: _Queue
    entries: list[_Entry]


def _settle(entry: _Entry, written: bool) -> None:
    if not entry.written.done():
        entry.written.set_result(written)


class OutputWriter:
    """Writes the outputs of all connections of this process, in order, each once.

    A connection may have `output_queue` outputs (and 16 Mi characters) waiting while Redis is away;
    then the oldest are dropped, which readers see as a gap. The end of a connection is never
    dropped before `record_ttl` has passed. Not thread-safe: all calls come from the event loop that
    `run` is on.

    Args:
        time: readers are told when each output was queued.

    Attributes:
        written: outputs and ends that Redis has.
        dropped: outputs given up.
    """

    def __init__(self, redis: Redis, settings: Settings, time: RedisTime | None = None) -> None:
        self._redis = redis
        self._time = time
        self._keys = Keys(settings.cluster)
        self._history = settings.output_history
        self._limit = settings.output_queue
        self._ttl = settings.record_ttl
        self._script = script_text("append_outputs")
        self._sha = load_script(redis, "append_outputs").sha
        # In order of their first output; older sessions of an id come before newer ones.
        self._queues: dict[tuple[str, int], _Queue] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.written = 0
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Outputs waiting to be written."""
        return sum(len(queue.entries) for queue in self._queues.values())

    def append(self, connection_id: str, session: int, encoded_args: str) -> "asyncio.Future[bool]":
        """Queue one output.

        Args:
            encoded_args: what `rayrtc.cluster.codec.encode` returned.

        Returns:
            Done when the output can be read (True) or was dropped (False).
        """
        return self._append(connection_id, session, "output", encoded_args)

    def end(self, connection_id: str, session: int, reason: EndReason) -> "asyncio.Future[bool]":
        """Queue the end of a session; nothing can follow it. Returns as `append` does."""
        done = self._append(connection_id, session, "end", reason)
        queue = self._queues.get((connection_id, session))
        if queue is not None and queue.deadline is None:
            queue.deadline = asyncio.get_running_loop().time() + self._ttl
        return done

    def _append(
        self, connection_id: str, session: int, kind: Literal["output", "end"], data: str
    ) -> "asyncio.Future[bool]":
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault((connection_id, session), _Queue(connection_id, session))
        if queue.deadline is not None:
            done.set_result(False)
            return done
        while queue.entries and (
            len(queue.entries) >= self._limit or queue.size + len(data) > QUEUE_BYTES
        ):
            queue.drop_oldest()
            self.dropped += 1
        queue.last += 1
        at = self._time.now() if self._time is not None else None
        queue.entries.append(_Entry(queue.last, kind, data, at, done))
        queue.size += len(data)
        self._work.set()
        self._idle.clear()
        return done

    async def flush(self, timeout: float) -> bool:
        """Wait until everything is written, for `timeout` seconds at most. Returns whether it is.

        `run` has to be running.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Write for ever. Redis may go and come back."""
        backoff = Backoff()
        while True:
            await self._work.wait()
            self._work.clear()
            while batches := self._next_batches():
                try:
                    await self._write(batches)
                    backoff.reset()
                except UNREACHABLE as error:
                    if backoff.first:
                        log.warning("writing outputs failed, trying again: %s", error)
                    await asyncio.sleep(backoff.next())
            self._idle.set()

    def _next_batches(self) -> list[_Batch]:
        now = asyncio.get_running_loop().time()
        batches: list[_Batch] = []
        size = 0
        seen: set[str] = set()
        share = max(1, WRITE_ENTRIES // max(1, len(self._queues)))
        for key, queue in list(self._queues.items()):
            if queue.deadline is not None and now > queue.deadline:
                self._give_up(queue)
            if not queue.entries:
                if queue.deadline is not None:
                    del self._queues[key]
                continue
            if queue.connection_id in seen:  # its older session goes first
                continue
            seen.add(queue.connection_id)
            entries: list[_Entry] = []
            for entry in queue.entries:
                if len(entries) == share or (size and size + len(entry.data) > BATCH_BYTES):
                    break
                entries.append(entry)
                size += len(entry.data)
            if entries:
                batches.append(_Batch(queue, entries))
        return batches

    def _give_up(self, queue: _Queue) -> None:
        log.error(
            "%d outputs could not be written",
            len(queue.entries),
            extra={"connection_id": queue.connection_id},
        )
        self.dropped += len(queue.entries)
        while queue.entries:
            queue.drop_oldest()

    async def _write(self, batches: Sequence[_Batch]) -> None:
        """Write batches in one round trip. What was written leaves its queue, whatever else fails.

        Raises:
            RedisError, OSError: something was not written.
        """
        answers = await asyncio.gather(
            *(self._evaluate(batch) for batch in batches), return_exceptions=True
        )
        failure: BaseException | None = None
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, NoScriptError):  # Redis was restarted: send it, write again
                await self._redis.script_load(self._script)
                continue
            if isinstance(answer, BaseException):
                failure = answer
                continue
            queue = batch.queue
            for entry in batch.entries:
                # An entry that was dropped while it was being written is not in the queue any more.
                if queue.entries and queue.entries[0] is entry:
                    queue.entries.popleft()
                    queue.size -= len(entry.data)
                _settle(entry, True)
            self.written += len(batch.entries)
        if failure is not None:
            raise failure

    def _evaluate(self, batch: _Batch) -> Awaitable[Any]:
        ttl = round(self._ttl * 1000)
        arguments: list[str | int] = [batch.queue.session, self._history, ttl]
        for entry in batch.entries:
            arguments += (entry.number, entry.kind, entry.data, entry.at or "")
        key = self._keys.outputs(batch.queue.connection_id)
        return self._redis.evalsha(self._sha, 1, key, *arguments)


async def append_lost(
    redis: Redis, settings: Settings, records: Sequence[ConnectionRecord]
) -> None:
    """Write the `end` of connections whose worker was lost, where it is missing.

    Raises:
        RedisError, OSError: Redis is away; the call may be repeated.
    """
    for record in records:
        reason = record.reason or EndReason.WORKER_LOST
        await append_end(redis, settings, record.connection_id, record.session, reason)


async def append_end(
    redis: Redis, settings: Settings, connection_id: str, session: int, reason: EndReason
) -> None:
    """Write the `end` of a session in place of its worker, unless it is there.

    Raises:
        RedisError, OSError: Redis is away; the call may be repeated.
    """
    script = load_script(redis, "append_outputs")
    await script(
        keys=[Keys(settings.cluster).outputs(connection_id)],
        args=[
            session,
            settings.output_history,
            round(settings.record_ttl * 1000),
            0,
            "end",
            reason,
            "",
        ],
    )
