"""`AdditionalOutputs` to the client of the event stream, 200 a second over 20 connections.

    python -m benchmarks.outputs [--rounds 5]

The events are the times at which the handlers made them.
"""

from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import FastRTC, Rayrtc
from benchmarks.load.outputs import ARRIVED
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress

CALLS = 20
LIMITS = {50: 5.0, 99: 20.0}
"""Milliseconds, by percentile."""


class Outputs:
    """rayrtc, and FastRTC for comparison, in turn."""

    name = "outputs"

    def run(self, rounds: int, progress: Progress) -> Report:
        title = f"AdditionalOutputs to the SSE client, 200/s over {CALLS} connections"
        report = Report(benchmark=self.name, title=title, rounds=rounds)
        progress.tell(f"{self.name}: starting")
        with Rayrtc() as ours, FastRTC() as theirs:
            for number in range(1, rounds + 1):
                for system in (ours, theirs):
                    what = f"{self.name}: round {number}/{rounds}, {system.name}"
                    progress.tell(what, (number - 1) / rounds)
                    load = Load(
                        kind="outputs",
                        url=system.url + "/outputs",
                        connections=CALLS,
                        content="silence",
                        readers=1,
                    )
                    measured = measure(system, load, partial(progress.step, what))
                    delays = measured.load.timings["output"]
                    for percent in LIMITS:
                        figure = report.figure(f"output to SSE client p{percent}", "ms")
                        figure.add(system.name, CALLS, percentile(delays, percent) * 1000)
                    rate = report.figure("outputs received", "1/s")
                    rate.add(
                        system.name, CALLS, measured.load.received / (measured.seconds - ARRIVED)
                    )
        for percent, limit in LIMITS.items():
            figure = report.figure(f"output to SSE client p{percent}", "ms")
            demand = f"{figure.name} <= {limit:.0f} ms"
            median = figure.median("rayrtc", CALLS)
            report.bars.append(Bar(demand=demand, measured=median, limit=limit, unit="ms"))
        return report


BENCHMARK = Outputs()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
