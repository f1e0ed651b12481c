"""One clock for all callers of a process: their packets are spread evenly over the interval."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

REMEMBERED = 200_000
"""Of the latest sends, how late they were."""
UNREAD_MAX = 64
"""Packets that are sent one after the other at most when we are behind: what comes must be read."""


class Pace:
    """Has each caller send once in every `interval` seconds.

    Args:
        interval: seconds.
        places: moments within it at which callers send, evenly apart.

    Attributes:
        late: seconds that each moment's packets were late, since `late` was cleared last.
    """

    def __init__(self, interval: float, places: int) -> None:
        self.late: deque[float] = deque(maxlen=REMEMBERED)
        self._interval = interval
        self._places: list[list[Callable[[], None]]] = [[] for _ in range(places)]

    def add(self, send: Callable[[], None]) -> None:
        """From now on call `send`, at the moment that has the fewest callers."""
        min(self._places, key=len).append(send)

    def remove(self, send: Callable[[], None]) -> None:
        """Call it no more; nothing happens when it is not there."""
        for place in self._places:
            if send in place:
                place.remove(send)

    async def run(self) -> None:
        """For ever."""
        begin = time.monotonic()
        step = self._interval / len(self._places)
        tick = unread = 0
        while True:
            wait = begin + tick * step - time.monotonic()
            if wait > 0 or unread >= UNREAD_MAX:
                await asyncio.sleep(max(0.0, wait))
                unread = 0
            due = self._places[tick % len(self._places)]
            if due:
                self.late.append(max(0.0, time.monotonic() - begin - tick * step))
                for send in tuple(due):
                    send()
            unread += max(1, len(due))
            tick += 1
