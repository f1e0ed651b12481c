"""The threads that plain functions of handlers run on, and what became of those that do not return.

Each connection has its own, at most one for each method it calls, so a worker with S slots runs no
more than 6 * S of them beside those that were left behind. What is received is decoded elsewhere.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Gauge

threads_abandoned = Counter(
    "rayrtc_worker_handler_threads_abandoned_total",
    "Threads of handlers that did not return after the end of their connection.",
)
left_running = Gauge(
    "rayrtc_worker_handler_calls_left_running",
    "Calls of handlers that still run although their connection has ended.",
)

_left: list["threading.Thread | asyncio.Task[Any]"] = []


class Interrupted(BaseException):
    """Raised inside of a handler that did not return after the end of its connection."""


class HandlerThread:
    """One thread of one connection.

    Args:
        name: what it does, for the log.
        function: called on it.
        loop: where `ended` is waited for.
    """

    def __init__(
        self, name: str, function: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name = name
        self.ended: asyncio.Future[None] = loop.create_future()
        self._function = function
        self._loop = loop
        self._ending = threading.Lock()
        self._returned = False
        self._thread = threading.Thread(target=self._run, name=f"handler-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def abandon(self) -> None:
        """Leave behind a thread that does not return, and interrupt what it runs.

        An exception is raised in it as soon as it runs Python code: it ends a loop, but not a wait
        without a timeout. Then the thread stays until the worker is replaced.
        """
        threads_abandoned.inc()
        leave(self._thread)
        with self._ending:
            if self._returned or self._thread.ident is None:
                return
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(Interrupted)
            )

    def _run(self) -> None:
        try:
            self._function()
        except Interrupted:
            pass
        finally:
            with self._ending:  # from here on it is not interrupted
                self._returned = True
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:
                pass  # the loop has ended under a thread that outlived its connection

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def leave(call: "threading.Thread | asyncio.Task[Any]") -> None:
    """Note a thread or task that outlives its connection."""
    _left.append(call)


def left_behind() -> int:
    """How many calls of ended connections still run."""
    _left[:] = [
        call
        for call in _left
        if (call.is_alive() if isinstance(call, threading.Thread) else not call.done())
    ]
    return len(_left)


left_running.set_function(left_behind)
