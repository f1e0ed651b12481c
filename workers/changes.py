"""Wakes what waits on the event loop for something that any thread may change."""

import asyncio
import threading
from collections.abc import Callable


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Have `callback` called on the loop. May be called from any thread."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass  # the loop has ended under a thread that outlived its connection


def run_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call `function` now on the thread of `loop`, else have it called there."""
    if asyncio._get_running_loop() is loop:
        function()
    else:
        tell(loop, function)


class Changes:
    """Tells the loop that something has changed; what it is, the waiter looks up.

    Made on the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._changed = asyncio.Event()
        self._waiting = 0

    def tell(self) -> None:
        """May be called from any thread, after the change."""
        if not self._waiting:  # to wake the loop costs as much as all the rest
            return
        if threading.get_ident() == self._thread:
            self._changed.set()
        else:
            tell(self._loop, self._changed.set)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until `done()` holds, which is looked at now and after each change."""
        self._waiting += 1  # before the look: a change after it is told
        try:
            while not done():
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiting -= 1
