"""Wakes what waits on the event loop for something that any thread may change."""

import asyncio
from collections.abc import Callable


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Have `callback` called on the loop. May be called from any thread."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass  # the loop has ended under a thread that outlived its connection


class Changes:
    """Tells the loop that something has changed; what it is, the waiter looks up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """May be called from any thread."""
        tell(self._loop, self._changed.set)

    def tell_at_once(self) -> None:
        """`tell`, on the loop."""
        self._changed.set()

    async def next(self) -> None:
        """Wait for a change. Between it and the look at what has changed must be no other wait."""
        self._changed.clear()
        await self._changed.wait()
