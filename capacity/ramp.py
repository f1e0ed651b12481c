"""Which number of calls is tried next, and when the capacity is known. Measures nothing itself."""

from enum import Enum


class Verdict(Enum):
    """Of one step."""

    CARRIED = "carried"
    BROKEN = "broken"
    """A bound was broken."""
    FULL = "full"
    """Carried, and the deployment takes no more calls."""
    GENERATOR = "generator"
    """A bound was broken, but the load generator did not keep its pace: nobody knows by whom."""


class Ramp:
    """Steps up to the first number that is too much, then halves what is left.

    A number is too much when it broke a bound twice in a row: machines hiccup, those that make the
    load as well.

    Args:
        step: calls that are added at a time; the result is known to a quarter of it.
        most: calls that are tried at most.

    Attributes:
        calls: what is to be tried now; None at the end.
        broken: the fewest calls that were too much; None when none were.
        repeats: whether `calls` is tried a second time.
        last: the latest verdict.
    """

    def __init__(self, step: int, most: int) -> None:
        self.calls: int | None = min(step, most)
        self.broken: int | None = None
        self.repeats = False
        self.last: Verdict | None = None
        self._carried: list[int] = []
        self._step = step
        self._most = most
        self._precision = max(1, step // 4)

    @property
    def carried(self) -> int:
        """The most calls that were within the bounds, and fewer than those that were too much."""
        return max((n for n in self._carried if self.broken is None or n < self.broken), default=0)

    def take(self, calls: int, verdict: Verdict) -> None:
        """What came of a step with so many calls; fewer than wanted when there was no room."""
        self.last = verdict
        if verdict in (Verdict.BROKEN, Verdict.GENERATOR) and not self.repeats and calls:
            self.calls, self.repeats = calls, True
            return
        self.repeats = False
        if verdict is Verdict.BROKEN:
            self.broken = min(calls, self.broken or calls)
        elif verdict is not Verdict.GENERATOR:
            self._carried.append(calls)
        ends = verdict in (Verdict.FULL, Verdict.GENERATOR)
        self.calls = None if ends else self._next()

    def _next(self) -> int | None:
        if self.broken is not None:
            if self.broken - self.carried <= self._precision:
                return None
            return (self.carried + self.broken) // 2
        return min(self.carried + self._step, self._most) if self.carried < self._most else None
