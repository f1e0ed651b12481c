"""Received frames that wait for a handler: bounded, the oldest is dropped for the newest."""

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from prometheus_client import Counter

from workers.changes import tell
from workers.courtesy import Courtesy

Frame = TypeVar("Frame")


class WaitingFrames(Generic[Frame]):
    """A queue that is filled and emptied on the loop or on a thread.

    Args:
        limit: frames that wait at most.
        dropped: counts those that had to go.
        max_age: seconds after which a frame is dropped, unless it is the newest.
    """

    def __init__(self, limit: int, dropped: Counter, max_age: float = float("inf")) -> None:
        self._limit = limit
        self._dropped = dropped
        self._max_age = max_age
        self._lock = threading.Lock()  # guards what follows
        self._frames: deque[tuple[float, Frame]] = deque()
        self._closed = False
        self._sleepers = 0  # threads in `get`
        self._courtesy = Courtesy()
        # the times at which they are woken; in C, as a Condition is not
        self._wake: SimpleQueue[float] = SimpleQueue()
        self._ready = asyncio.Event()
        self._waiter: tuple[asyncio.AbstractEventLoop, int] | None = None  # and its thread

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        """Add a frame. May be called from any thread."""
        with self._lock:
            if self._closed:
                return
            self._drop_old()
            if len(self._frames) >= self._limit:
                self._drop()
            now = monotonic()
            self._frames.append((now, frame))
            wakes = self._sleepers > 0
            self._sleepers -= wakes
            waiter, self._waiter = self._waiter, None
        if wakes:
            self._wake.put(now)
        if waiter is not None:
            loop, thread = waiter
            if thread == threading.get_ident():
                self._ready.set()
            else:
                tell(loop, self._ready.set)

    def get(self) -> Frame | None:
        """The next frame, waiting on the calling thread; None after `close`. All calls come from
        one thread."""
        while True:
            with self._lock:
                if self._frames or self._closed:
                    return self._take()
                self._sleepers += 1
            self._courtesy.sleeps()
            self._courtesy.woken(self._wake.get())

    async def next(self) -> Frame | None:
        """`get` for the loop."""
        while True:
            with self._lock:
                if self._frames or self._closed:
                    return self._take()
                self._ready.clear()
                self._waiter = asyncio.get_running_loop(), threading.get_ident()
            await self._ready.wait()

    def close(self) -> None:
        """End both kinds of waiting. Called on the loop."""
        with self._lock:
            self._closed = True
            self._frames.clear()
            sleepers, self._sleepers = self._sleepers, 0
        for _ in range(sleepers):
            self._wake.put(monotonic())
        self._ready.set()

    def _take(self) -> Frame | None:
        if self._closed:
            return None
        self._drop_old()
        return self._frames.popleft()[1]

    def _drop_old(self) -> None:
        while len(self._frames) > 1 and self._frames[0][0] < monotonic() - self._max_age:
            self._drop()

    def _drop(self) -> None:
        self._frames.popleft()
        self._dropped.inc()
