"""What keeping the times of handlers costs a frame.

    python -m benchmarks.handler_times

`receive` of a handler that does nothing is called as the worker does, and as it would without
`workers.handler_times`. The rounds alternate; the least of each is shown.
"""

import asyncio
import threading
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from workers.handler_times import ConnectionTimes, HandlerTimes
from workers.steps import Steps
from workers.tasks import Tasks
from workers.threads import Threads

CALLS = 50_000
ROUNDS = 7


class OnThread(Threads):
    """As much of a runtime as a call of `receive` needs."""

    def __init__(self) -> None:
        self._times = ConnectionTimes("bench", HandlerTimes())
        self._failures = {}
        self._wake = threading.Event()
        self._done = False

    def start(self) -> None:
        pass


class BareOnThread(OnThread):
    """Without the clocks."""

    def _call(self, call: str, function: Any, *args: Any) -> Any:
        try:
            result = function(*args)
        except BaseException as error:
            self._failed(call, error)
            return None
        self._succeeded(call)
        return result


class OnLoop(Tasks):
    """As much of a runtime as a call of `receive` needs."""

    def __init__(self) -> None:
        self._times = ConnectionTimes("bench", HandlerTimes())
        self._failures = {}
        self._done = False

    def start(self) -> None:
        pass


class BareOnLoop(OnLoop):
    """Without the clocks but that of the watch over the loop."""

    async def _call(self, call: str, function: Any, *args: Any) -> Any:
        steps: Steps[Any] | None = None
        try:
            steps = Steps(function(*args))
            result = await steps
        except Exception as error:
            self._failed(call, error)
            return None
        finally:
            if steps is not None and steps.held > 1 and not self._done:
                await asyncio.sleep(steps.held)
            self._waited = steps is not None and steps.waited
        self._succeeded(call)
        return result


def take(frame: Any) -> None:
    pass


async def take_async(frame: Any) -> None:
    pass


def on_thread(bare: bool) -> float:
    """Nanoseconds of a call."""
    own = BareOnThread() if bare else OnThread()
    arguments: Any = (take, 0) if bare else (own._timed, "receive", take, 0)
    begin = time.perf_counter_ns()
    for _ in range(CALLS):
        own._call("receive", *arguments)
    return (time.perf_counter_ns() - begin) / CALLS


def on_loop(bare: bool) -> float:
    """Nanoseconds of a call."""

    async def call() -> float:
        own = BareOnLoop() if bare else OnLoop()
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            await own._call("receive", take_async, 0)
        return (time.perf_counter_ns() - begin) / CALLS

    return asyncio.run(call())


def main() -> None:
    table = Table("receive", "without, ns a frame", "with, ns a frame", "cost, ns a frame")
    for name, measure in (("on a thread", on_thread), ("async", on_loop)):
        rounds = [(measure(True), measure(False)) for _ in range(ROUNDS)]
        without, with_ = (min(each) for each in zip(*rounds, strict=True))
        table.add_row(name, *(f"{ns:.0f}" for ns in (without, with_, with_ - without)))
    Console().print(table)


if __name__ == "__main__":
    main()
