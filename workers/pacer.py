"""The clock of a worker by which sound is sent: one timer for all of its connections."""

import asyncio
import logging
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

TICK = 0.005
"""Seconds between two moments at which something may be sent."""

_OTHER_CLOCK = 1.0  # seconds between two clocks that are not the same; uvloop's has whole ms

Member = Callable[[float], None]
"""Called on the loop with the time (`time.monotonic`)."""


class Pacer:
    """Calls its members when they are due, those of the same 5 ms together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[int, list[Member]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        self._running = False

    def at(self, due: float, member: Member) -> None:
        """Call `member` once, at the tick nearest to the time `due` (`time.monotonic`). Called on
        the loop."""
        tick = round(due / TICK)
        self._due.setdefault(tick, []).append(member)
        if not self._running and (self._timer is None or tick < self._next):
            self._schedule(tick)

    def _schedule(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        self._timer = self._loop.call_at(tick * TICK + self._ahead(), self._run)

    def _ahead(self) -> float:
        """Seconds that the loop's clock is ahead: on macOS uvloop's counts sleep, Python's not."""
        ahead = self._loop.time() - time.monotonic()
        return ahead if abs(ahead) > _OTHER_CLOCK else 0.0

    def _run(self) -> None:
        self._timer = None
        self._running = True  # what members ask for is scheduled at the end, with all the rest
        now = self._loop.time() - self._ahead()
        for tick in sorted(self._due):
            if tick * TICK > now + TICK / 10:
                break
            now = max(now, tick * TICK)  # a timer may be early by as much as its clock is coarse
            for member in self._due.pop(tick):
                try:
                    member(now)
                except Exception:
                    logger.exception("a connection cannot send")
        self._running = False
        if self._due:
            self._schedule(min(self._due))


_pacers: WeakKeyDictionary[asyncio.AbstractEventLoop, Pacer] = WeakKeyDictionary()


def pacer_of(loop: asyncio.AbstractEventLoop) -> Pacer:
    """The one of a loop."""
    if (pacer := _pacers.get(loop)) is None:
        pacer = _pacers[loop] = Pacer(loop)
    return pacer
