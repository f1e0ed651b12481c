"""Two workers with 8 callers each against one with 8: the same CPU for each connection.

    python -m benchmarks.two_workers [--rounds 5]

Two systems run side by side and are measured in turn.
"""

from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.media import DELIVERED, ENOUGH, MEDIA, PER_CALL, put_down
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import Rayrtc
from benchmarks.load.protocol import Load
from capacity.progress import Progress

CALLS = 8
"""Of each worker."""
LIMIT = 0.05


class TwoWorkers:
    """A pool of one and a pool of two."""

    name = "two_workers"

    def run(self, rounds: int, progress: Progress) -> Report:
        report = Report(benchmark=self.name, title="two workers against one", rounds=rounds)
        progress.tell(f"{self.name}: starting")
        # exactly as many slots as calls, so that they are spread evenly
        with Rayrtc(workers=1, slots=CALLS) as one, Rayrtc(workers=2, slots=CALLS) as two:
            one.name, two.name = "one worker", "two workers"
            for number in range(1, rounds + 1):
                for system in (one, two):
                    what = f"{self.name}: round {number}/{rounds}, {system.name}"
                    progress.tell(what, (number - 1) / rounds)
                    load = Load(url=system.url + "/echo-async", connections=CALLS * system.workers)
                    put_down(measure(system, load, partial(progress.step, what)), report)
        cost, delivered = report.figure(MEDIA, PER_CALL), report.figure(DELIVERED, "")
        single, double = cost.median("one worker", CALLS), cost.median("two workers", 2 * CALLS)
        if single and double is not None:
            kept_up = (delivered.median("two workers", 2 * CALLS) or 0.0) >= ENOUGH
            difference = abs(double / single - 1)
            report.bars.append(
                Bar(
                    demand=f"CPU per connection differs by <= {LIMIT}",
                    measured=difference if kept_up else None,
                    limit=LIMIT,
                )
            )
        return report


BENCHMARK = TwoWorkers()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
