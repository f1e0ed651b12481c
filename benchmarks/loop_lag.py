"""How late the event loop of a worker runs whose slots are full, at the default of `slots`.

    python -m benchmarks.loop_lag [--rounds 5]

A task beside the handlers sleeps 10 ms again and again and notes how late it wakes.
"""

import json
import time
from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.media import put_down
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import Rayrtc
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress
from rayrtc.settings import Settings

LIMIT = 20.0
"""Milliseconds."""
WRITTEN = 2.5
"""Seconds after which the values of a round are on disk."""


class LoopLag:
    """rayrtc alone, with its default of slots."""

    name = "loop_lag"

    def run(self, rounds: int, progress: Progress) -> Report:
        slots = Settings.model_fields["slots"].default
        title = f"event-loop lag, {slots} echoes (the default of slots)"
        report = Report(benchmark=self.name, title=title, rounds=rounds)
        with Rayrtc(slots=None, lag=True) as system:
            seen = 0
            for number in range(1, rounds + 1):
                what = f"{self.name}: round {number}/{rounds}"
                progress.tell(what, (number - 1) / rounds)
                load = Load(url=system.url + "/echo-async", connections=slots, seconds=15)
                put_down(measure(system, load, partial(progress.step, what)), report)
                time.sleep(WRITTEN)
                lags = self._lags(system)
                lags, seen = lags[seen:], len(lags)
                for name, value in (
                    ("p50", percentile(lags, 50)),
                    ("p99", percentile(lags, 99)),
                    ("largest", max(lags)),
                ):
                    figure = report.figure(f"event-loop lag, {name}", "ms")
                    figure.add(system.name, slots, value * 1000)
        p99 = report.figure("event-loop lag, p99", "ms").median("rayrtc", slots)
        report.bars.append(
            Bar(demand=f"event-loop lag p99 <= {LIMIT} ms", measured=p99, limit=LIMIT, unit="ms")
        )
        return report

    def _lags(self, system: Rayrtc) -> list[float]:
        """All values so far, seconds; those between two rounds too, while calls come and go."""
        (path,) = system.records.glob("lag-*.json")
        values: list[float] = json.loads(path.read_text())
        return values


BENCHMARK = LoopLag()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
