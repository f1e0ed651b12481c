"""The workers of the streams that need the same: how many are wanted, and how their starts went."""

from workers.demand import Demand
from workers.needs import Needs
from workers.pool import backoff


class Group:
    """What the supervisor remembers of one pool.

    Attributes:
        needs: what its workers take of a node.
        serves: whether the application has a stream that needs this.
        wanted: workers, by the last plan; `full` says whether they are ready.
        failures: failed starts in a row; `error` says why the last one failed.
        demand: how many calls come, and how long workers take to start.
        next_start: when the next worker may be started, by the monotonic clock.
    """

    def __init__(self, needs: Needs, serves: bool = True) -> None:
        self.needs = needs
        self.serves = serves
        self.wanted = 1
        self.full = False
        self.failures = 0
        self.error = ""
        self.next_start = 0.0
        self.demand = Demand()
        self._oversized_since: float | None = None

    def succeeded(self, seconds: float | None = None) -> None:
        """A worker has started, within so many seconds if that is known."""
        if seconds is not None:
            self.demand.started(seconds)
        self.failures, self.error, self.next_start = 0, "", 0.0

    def failed(self, error: str, now: float) -> float:
        """A worker could not start. Returns the seconds until the next one may be."""
        self.failures += 1
        self.error = error
        wait = backoff(self.failures)
        self.next_start = now + wait
        return wait

    def planned(self, wanted: int, serving: int, ready: int, now: float) -> None:
        """Take the outcome of a plan.

        `wanted` workers are enough, `serving` run or start, `ready` of the current code run.
        """
        self.wanted = wanted
        self.full = ready >= wanted
        if serving <= wanted:
            self._oversized_since = None
        elif self._oversized_since is None:
            self._oversized_since = now

    def oversized_for(self, now: float) -> float:
        """Seconds since when there have been more workers than wanted."""
        return 0.0 if self._oversized_since is None else now - self._oversized_since
