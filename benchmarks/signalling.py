"""From offer to answer, and from offer to the first media that comes back.

    python -m benchmarks.signalling [--rounds 5]

Twenty calls one after the other in each round, of the echo; the callers send from when they are
connected. FastRTC waits for the data channel too.
"""

from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import Aiortc, FastRTC, Rayrtc
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress

CALLS = 20
MORE = 10.0
"""Milliseconds above plain aiortc."""


class Signalling:
    """All three systems."""

    name = "signalling"

    def run(self, rounds: int, progress: Progress) -> Report:
        title = f"offer to answer and to first media, {CALLS} calls in turn"
        report = Report(benchmark=self.name, title=title, rounds=rounds)
        progress.tell(f"{self.name}: starting")
        with Rayrtc() as ours, FastRTC() as fastrtc, Aiortc() as aiortc:
            for number in range(1, rounds + 1):
                for system in (ours, fastrtc, aiortc):
                    what = f"{self.name}: round {number}/{rounds}, {system.name}"
                    progress.tell(what, (number - 1) / rounds)
                    load = Load(
                        kind="signalling", url=system.url + "/echo-async", connections=CALLS
                    )
                    measured = measure(system, load, partial(progress.step, what))
                    for step, times in measured.load.timings.items():
                        for percent in (50, 99):
                            figure = report.figure(f"offer to {step} p{percent}", "ms")
                            figure.add(system.name, 1, percentile(times, percent) * 1000)
        for step in ("answer", "first media"):
            figure = report.figure(f"offer to {step} p50", "ms")
            limit = (figure.median("aiortc", 1) or 0.0) + MORE
            demand = f"{figure.name} <= aiortc's + {MORE:.0f} ms = {limit:.1f} ms"
            ours_ = figure.median("rayrtc", 1)
            report.bars.append(Bar(demand=demand, measured=ours_, limit=limit, unit="ms"))
        return report


BENCHMARK = Signalling()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
