"""The threads of a worker that code and decode video, shared by all of its connections.

Each connection has one frame at a time with them, so what waits here is bounded by the connections
themselves. No handler's code runs here.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

_T = TypeVar("_T")

BEHIND = 0.010
"""Seconds that jobs wait for a thread, from which on they are to be made cheaper."""
_WEIGHT = 0.1  # of the newest job in the moving average


def available_cpus() -> int:
    """Of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CodecThreads:
    """As many threads as there are CPUs."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="codec")
        self._waited = 0.0

    @property
    def behind(self) -> bool:
        """Whether there is more to do than the threads can."""
        return self._waited > BEHIND

    def submit(self, function: Callable[..., _T], *args: Any) -> Future[_T]:
        """Call `function` on one of the threads."""
        asked = time.monotonic()

        def timed() -> _T:
            self._waited += _WEIGHT * (time.monotonic() - asked - self._waited)
            return function(*args)

        return self._threads.submit(timed)

    def run(self, function: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        """`submit` for the loop."""
        return asyncio.wrap_future(self.submit(function, *args))


@cache
def codec_threads() -> CodecThreads:
    """Those of this process."""
    return CodecThreads()
