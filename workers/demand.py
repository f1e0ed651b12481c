"""How much room a pool keeps free: enough for what comes while another worker starts.

Calls come independently of each other, so within a time they vary by the square root of their
number; to that comes by how much they have been growing.
"""

import math

WINDOW = 60.0
"""Seconds that the rates look back: the time constant of moving averages."""
DEVIATIONS = 2.0
"""How many standard deviations of the calls during a start are kept free
(`benchmarks/autoscale.py`)."""
FIRST_START = 10.0
"""Seconds that a start is expected to take before one has been seen."""
LONGEST_START = 600.0
"""Seconds of a start that count at most."""
_FORGET = 0.3  # how much of a start that is quicker than was expected counts


class Demand:
    """What comes to one pool."""

    def __init__(self) -> None:
        self._rate = 0.0  # calls that come, each second
        self._growth = 0.0  # calls more, each second
        self._start = FIRST_START
        self._calls = 0
        self._at: float | None = None

    def observe(self, arrived: int, calls: int, now: float) -> None:
        """Take a look at the pool.

        Args:
            arrived: calls that have come since the last look.
            calls: how many there are.
            now: seconds, of a clock that does not go back.
        """
        if self._at is not None and now > self._at:
            passed = now - self._at
            weight = 1 - math.exp(-passed / WINDOW)
            self._rate += weight * (arrived / passed - self._rate)
            self._growth += weight * ((calls - self._calls) / passed - self._growth)
        self._calls, self._at = calls, now

    def started(self, seconds: float) -> None:
        """A worker takes calls so many seconds after it was asked for. A slow start counts at once,
        a quick one by and by."""
        seconds = min(seconds, LONGEST_START)
        weight = 1.0 if seconds > self._start else _FORGET
        self._start += weight * (seconds - self._start)

    @property
    def buffer(self) -> int:
        """Slots to keep free."""
        growth = max(0.0, self._growth) * self._start
        return math.ceil(growth + DEVIATIONS * math.sqrt(self._rate * self._start))
