"""One clock for all callers of a process: their packets are spread evenly over the interval."""

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Calls `send(caller, count)` for each caller every `interval` seconds.

    Attributes:
        late: seconds that each call was late, since `late` was cleared last.
    """

    def __init__(self, callers: int, interval: float, send: Callable[[int, int], None]) -> None:
        self.late: list[float] = []
        self._callers = callers
        self._interval = interval
        self._send = send

    async def run(self) -> None:
        """For ever."""
        begin = time.monotonic()
        step = self._interval / self._callers
        tick = 0
        while True:
            wait = begin + tick * step - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif not tick % 64:
                await asyncio.sleep(0)  # what comes must be read also when we are behind
            self.late.append(max(0.0, time.monotonic() - begin - tick * step))
            self._send(tick % self._callers, tick // self._callers)
            tick += 1
