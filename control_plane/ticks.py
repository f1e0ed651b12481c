"""The clock of a replica by which what clients send over WebSocket goes on to their workers.

What comes in the same 5 ms goes on together. A worker that is woken for each message of each call
spends more on waking up than on the message.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

TICK = 0.005
"""Seconds between two moments at which something goes on."""


class Ticks:
    """Calls those that have something to send, all at the same moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._members: list[Callable[[], None]] = []

    def join(self, member: Callable[[], None]) -> None:
        """Call `member` once, at the next tick."""
        self._members.append(member)
        if len(self._members) == 1:
            self._loop.call_at(math.ceil(self._loop.time() / TICK) * TICK, self._run)

    def _run(self) -> None:
        members, self._members = self._members, []
        for member in members:
            try:
                member()
            except Exception:
                logger.exception("what a client has sent cannot be passed on")


_ticks: WeakKeyDictionary[asyncio.AbstractEventLoop, Ticks] = WeakKeyDictionary()


def ticks_of(loop: asyncio.AbstractEventLoop) -> Ticks:
    """Those of a loop."""
    if (ticks := _ticks.get(loop)) is None:
        ticks = _ticks[loop] = Ticks(loop)
    return ticks
