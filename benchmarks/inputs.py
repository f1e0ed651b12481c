"""`POST /input_hook` to the next call of the handler, 200 inputs a second over 20 connections.

    python -m benchmarks.inputs [--rounds 5]

The handler's `receive` is called fifty times a second and notes how old an input is that it sees
for the first time: 10 ms of the median are the wait for that call, in both systems.
"""

import json
import time
from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import FastRTC, Rayrtc, System
from benchmarks.load.inputs import RATE
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress

CALLS = 20
MORE = {50: 3.0, 99: 10.0}
"""Milliseconds above FastRTC, by percentile."""
WRITTEN = 3.0
"""Seconds after which ended handlers have written what they measured."""


class Inputs:
    """rayrtc and FastRTC in turn."""

    name = "inputs"

    def run(self, rounds: int, progress: Progress) -> Report:
        title = f"input_hook to the handler's next call, {RATE:.0f}/s over {CALLS} connections"
        report = Report(benchmark=self.name, title=title, rounds=rounds)
        progress.tell(f"{self.name}: starting")
        with Rayrtc() as ours, FastRTC() as theirs:
            for number in range(1, rounds + 1):
                for system in (ours, theirs):
                    what = f"{self.name}: round {number}/{rounds}, {system.name}"
                    progress.tell(what, (number - 1) / rounds)
                    self._measure(system, report, partial(progress.step, what))
        for percent, more in MORE.items():
            figure = report.figure(f"input to handler p{percent}", "ms")
            limit = (figure.median("fastrtc", CALLS) or 0.0) + more
            demand = f"{figure.name} <= FastRTC's + {more:.0f} ms = {limit:.1f} ms"
            median = figure.median("rayrtc", CALLS)
            report.bars.append(Bar(demand=demand, measured=median, limit=limit, unit="ms"))
        return report

    def _measure(self, system: System, report: Report, tell: partial[None]) -> None:
        load = Load(kind="inputs", url=system.url + "/inputs", connections=CALLS, content="silence")
        measured = measure(system, load, tell)
        time.sleep(WRITTEN)
        delays: list[float] = []
        for path in system.records.glob("inputs-*.json"):
            delays += json.loads(path.read_text())
            path.unlink()
        for percent in MORE:
            figure = report.figure(f"input to handler p{percent}", "ms")
            figure.add(system.name, CALLS, percentile(delays, percent) * 1000)
        for percent in MORE:
            figure = report.figure(f"POST to its answer p{percent}", "ms")
            times = measured.load.timings["post"]
            figure.add(system.name, CALLS, percentile(times, percent) * 1000)
        seen = report.figure("inputs that a call saw, by those sent", "")
        seen.add(system.name, CALLS, len(delays) / measured.load.sent)


BENCHMARK = Inputs()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
