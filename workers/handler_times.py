"""How long handlers take, by stream and method.

Each call adds to numbers of its own connection and method, which one thread or task alone writes,
so it takes no lock. They are summed up when metrics are asked for, on the worker's loop, and are
kept when their connection ends.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
"""Seconds. A frame of audio has 0.02."""
LABELS = ("stream", "method")

now = time.perf_counter
"""Seconds, for `Method.took`."""


class Method:
    """One method of one connection's handler; one thread or task writes it.

    Attributes:
        seconds: of all calls that were timed.
        counts: of those by `BOUNDS`, the last for what took longer.
        busy: seconds in which it computed.
    """

    __slots__ = ("busy", "counts", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counts = [0] * (len(BOUNDS) + 1)
        self.busy = 0.0

    def took(self, seconds: float) -> None:
        """Time one call."""
        self.seconds += seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1

    def add(self, other: "Method") -> None:
        """Take what another one has."""
        self.seconds += other.seconds
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]
        self.busy += other.busy


class ConnectionTimes(dict[str, Method]):
    """The methods of one connection's handler, made when they are asked for. `close` it once."""

    def __init__(self, stream: str, sums: "HandlerTimes | None" = None) -> None:
        super().__init__()
        self.stream = stream
        self._sums = sums or handler_times
        self._sums.open[id(self)] = self

    def __missing__(self, method: str) -> Method:
        made = self[method] = Method()
        return made

    def close(self) -> None:
        """The connection has ended: what a call that outlives it adds is not counted."""
        self._sums.closed(self)


class HandlerTimes(Collector):
    """The sums over all connections of this process. Used on the worker's loop."""

    def __init__(self) -> None:
        self.open: dict[int, ConnectionTimes] = {}
        self._ended: dict[tuple[str, str], Method] = {}

    def closed(self, times: ConnectionTimes) -> None:
        """Keep what an ended connection has taken."""
        del self.open[id(times)]
        _add(self._ended, times)

    def collect(self) -> Iterable[Metric]:
        """Both families."""
        sums: dict[tuple[str, str], Method] = {}
        for key, method in self._ended.items():
            sums.setdefault(key, Method()).add(method)
        for times in self.open.values():
            _add(sums, times)
        seconds = HistogramMetricFamily(
            "rayrtc_worker_handler_seconds",
            "Time that one call of a handler's method took, but of those that emit.",
            labels=LABELS,
        )
        busy = CounterMetricFamily(
            "rayrtc_worker_handler_busy_seconds",
            "Time in which a handler's method computed; its waits do not count.",
            labels=LABELS,
        )
        for key, method in sums.items():
            busy.add_metric(key, method.busy)
            if any(method.counts):
                seconds.add_metric(key, _cumulative(method.counts), method.seconds)
        return seconds, busy


def _add(sums: dict[tuple[str, str], Method], times: ConnectionTimes) -> None:
    for name, method in list(times.items()):  # a thread may add one meanwhile
        sums.setdefault((times.stream, name), Method()).add(method)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


handler_times = HandlerTimes()
REGISTRY.register(handler_times)
