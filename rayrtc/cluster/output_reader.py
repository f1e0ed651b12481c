"""Reading one connection's outputs from a cursor: what is a gap, and when it ends."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionRecord, ConnectionState, EndReason, OutputEntry
from rayrtc.cluster.redis import UNREACHABLE, Backoff
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

PAGE: Final = 64
"""Entries a reader holds at most."""
END_GRACE: Final = 2.0
"""Seconds for the `end` entry to follow the record that says that a connection has ended."""
_CURSOR: Final = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)

Position = tuple[int, int]
"""Session and number of an entry. Position (S, 0) is before the first entry of session S."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries between these two ids are gone. `after` is None when the cursor was no id at all."""

    after: str | None
    next: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while; the reader is alive."""


def parse_cursor(cursor: str) -> Position | None:
    """The position that a client's cursor names, or None when it is no id of an output."""
    match = _CURSOR.fullmatch(cursor)
    return (int(match[1]), int(match[2])) if match else None


def format_id(position: Position) -> str:
    """The id of the entry at a position."""
    return f"{position[0]}-{position[1]}"


def to_entry(entry_id: str, fields: dict[str, Any], awaited: bool = False) -> OutputEntry:
    """An entry as Redis has it; `awaited` is whether its reader was there first."""
    if fields["kind"] == "end":
        return OutputEntry(id=entry_id, kind="end", reason=EndReason(fields["data"]))
    at = fields.get("at") if awaited else None
    return OutputEntry(id=entry_id, kind="output", args=fields["data"], at=int(at) if at else None)


class OutputReader:
    """One reader of one connection.

    It takes a page at a time, when it is asked for the next entry, so a slow reader holds one page.

    Args:
        record: the connection's record when the reader came.
        waker: set by somebody whenever there may be new entries.
    """

    def __init__(
        self,
        redis: Redis,
        registry: Registry,
        settings: Settings,
        record: ConnectionRecord,
        waker: asyncio.Event,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._key = Keys(settings.cluster).outputs(record.connection_id)
        self._lost_after = settings.lease_ttl + registry.settle
        self._record = record
        self._waker = waker
        self._position: Position = (record.session, 0)
        # Whether another session may follow `_position` without a gap: after an end, and after a
        # session that was only reserved.
        self._ended = record.state is ConnectionState.RESERVED
        # Whether what lies between `_position` and the next entry would be missed.
        self._judging = False
        self._started = False
        # Whether it has had all that there was.
        self._awaiting = False
        # Whether the client has seen an end as the last it saw.
        self._at_end = False

    async def items(
        self, cursor: str | None, heartbeat: float
    ) -> AsyncGenerator[OutputEntry | Gap | Heartbeat, None]:
        """Entries after `cursor` up to the end of the connection; see `OutputHub.read`."""
        loop = asyncio.get_running_loop()
        if (lost := self._start(cursor)) is not None:
            yield lost
        backoff = Backoff()
        beat = loop.time() + heartbeat
        over: float | None = None
        if self._record.state is ConnectionState.CLOSED:
            over = loop.time() + END_GRACE
        while True:
            self._waker.clear()
            failed = False
            try:
                entries, more = await self._page()
                backoff.reset()
            except UNREACHABLE:
                entries, more, failed = [], False, True
            for entry in entries:
                if (gap := self._advance(entry)) is not None:
                    yield gap
                last = entry.kind == "end" and await self._is_last()
                if entry.kind == "end" and not last:
                    continue  # the id goes on with another session, and so does its reader
                yield entry
                beat = loop.time() + heartbeat
                if last:
                    return
            if more:
                continue
            if not failed:
                if self._at_end and self._position[0] >= self._record.session:
                    return
                self._at_end = False
                self._judging = self._awaiting = True

            await self._wait(min(beat, over or beat), backoff.next() if failed else None)

            if over is not None and loop.time() >= over:
                seems = await self._seems_over()
                if seems is not None:
                    yield OutputEntry(id=format_id(self._position), kind="end", reason=seems[1])
                    return
                over = None
            if loop.time() >= beat:
                if over is None and (seems := await self._seems_over()) is not None:
                    over = loop.time() + seems[0]
                yield Heartbeat()
                beat = loop.time() + heartbeat

    def _start(self, cursor: str | None) -> Gap | None:
        """Take the position of the client's cursor. Returns the gap if there is no such place."""
        if cursor is None:
            self._started = True
            return None
        position = parse_cursor(cursor)
        if position is None or position[0] > self._record.session:
            self._started = True
            return Gap(cursor if position else None, format_id(self._position))
        self._position = position
        self._ended = False
        self._judging = True
        return None

    async def _page(self) -> tuple[list[OutputEntry], bool]:
        """The next entries, and whether there may be more."""
        position = format_id(self._position)
        # The first page includes the cursor's own entry: whether it is an end decides on a gap.
        minimum = f"({position}" if self._started else position
        rows: Any = await self._redis.xrange(self._key, minimum, "+", count=PAGE)
        entries = [to_entry(entry_id, fields, self._awaiting) for entry_id, fields in rows]
        more = len(entries) == PAGE
        if not self._started:
            self._started = True
            if entries and entries[0].id == position:
                self._ended = self._at_end = entries.pop(0).kind == "end"
        return entries, more

    def _advance(self, entry: OutputEntry) -> Gap | None:
        """Move to `entry`. Returns what is missing before it."""
        before, position = self._position, parse_cursor(entry.id)
        if position is None:
            raise ValueError(f"{entry.id} is no output id")
        if position[0] == before[0]:
            contiguous = position[1] == before[1] + 1
        else:
            contiguous = position[1] == 1 and self._ended
        gap = None
        if self._judging and not contiguous:
            gap = Gap(format_id(before), entry.id)
        self._position = position
        self._ended = entry.kind == "end"
        self._judging = True
        self._at_end = False
        return gap

    async def _is_last(self) -> bool:
        """Whether the connection ends with the `end` here: its id may have a newer session."""
        try:
            record = await self._registry.find(self._record.connection_id)
        except UNREACHABLE:
            return True
        if record is None:
            return True
        self._record = record
        return record.session <= self._position[0]

    async def _seems_over(self) -> tuple[float, EndReason] | None:
        """Whether the record says that no `end` will come: the grace in seconds, and the reason."""
        try:
            record = await self._registry.find(self._record.connection_id)
        except UNREACHABLE:
            return None
        if record is None:
            return self._lost_after, self._record.reason or EndReason.EXPIRED
        self._record = record
        if record.state is ConnectionState.CLOSED:
            return END_GRACE, record.reason or EndReason.EXPIRED
        return None

    async def _wait(self, until: float, pause: float | None) -> None:
        """Wait for entries until a loop time; after a failure at least a pause, whatever comes."""
        loop = asyncio.get_running_loop()
        if pause is not None:
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
            return
        try:
            async with asyncio.timeout_at(until):
                await self._waker.wait()
        except TimeoutError:
            pass
