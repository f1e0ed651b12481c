"""The threads of a worker that code and decode video, shared by all of its connections.

Each connection has one frame at a time with them, so what waits here is bounded by the connections
themselves. No handler's code runs here.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
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

    def run(
        self, function: Callable[_P, _T], *args: _P.args, **options: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Call `function` on one of the threads. Called on the loop."""
        asked = time.monotonic()

        def timed() -> _T:
            self._waited += _WEIGHT * (time.monotonic() - asked - self._waited)
            return function(*args, **options)

        return asyncio.get_running_loop().run_in_executor(self._threads, timed)


@cache
def codec_threads() -> CodecThreads:
    """Those of this process."""
    return CodecThreads()
