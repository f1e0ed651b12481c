"""Everything but the worker: what calls add to control plane, Redis, supervisor and Ray.

    python -m benchmarks.everything_else [--rounds 5]

Each round looks at the tree without a call and then with 8 callers of an echo. What it does when
nobody calls, it does for all connections of a node together.
"""

import time
from functools import partial

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.process_tree import Role, Sample, cpu_between, sample, total
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import Rayrtc, System
from benchmarks.load.protocol import Load
from capacity.progress import Progress

CALLS = 8
SECONDS = 15.0
LIMIT = 0.05


class EverythingElse:
    """rayrtc alone, idle and in use in turn."""

    name = "everything_else"

    def run(self, rounds: int, progress: Progress) -> Report:
        report = Report(benchmark=self.name, title="everything but the worker", rounds=rounds)
        with Rayrtc() as system:
            for number in range(1, rounds + 1):
                progress.tell(f"{self.name}: round {number}/{rounds}", (number - 1) / rounds)
                self._round(system, report, progress)
        added = report.figure("everything else by worker, both added by calls", "")
        median = added.median("rayrtc", CALLS)
        if median is not None:
            report.bars.append(
                Bar(
                    demand=f"everything else adds <= {LIMIT} of what the worker does",
                    measured=median,
                    limit=LIMIT,
                )
            )
        return report

    def _round(self, system: System, report: Report, progress: Progress) -> None:
        before = sample(system.roots())
        time.sleep(SECONDS)
        after = sample(system.roots())
        idle = put_down_idle(before, after, report)
        load = Load(url=system.url + "/echo-async", connections=CALLS, seconds=SECONDS)
        measured = measure(system, load, partial(progress.step, self.name))
        busy = {role: used / SECONDS for role, used in measured.cpu.items()}
        for role, share in sorted(busy.items()):
            added = (share - idle.get(role, 0.0)) * 1000 / CALLS
            figure = report.figure(f"added by calls, {role}", "ms per connection-second")
            figure.add(system.name, CALLS, added)
        rest = total(busy, without=["worker"]) - total(idle, without=["worker"])
        worker = busy.get("worker", 0.0) - idle.get("worker", 0.0)
        report.figure("everything else by worker, both added by calls", "").add(
            system.name, CALLS, rest / worker
        )


def put_down_idle(before: Sample, after: Sample, report: Report) -> dict[Role, float]:
    """Add CPU and memory without a call; CPU seconds a second by role."""
    idle = {role: used / SECONDS for role, used in cpu_between(before, after).items()}
    for role, share in sorted(idle.items()):
        report.figure(f"without a call, {role}", "ms/s").add("rayrtc", 0, share * 1000)
    report.figure("without a call, all", "ms/s").add("rayrtc", 0, sum(idle.values()) * 1000)
    for role, size in sorted(after.unique_memory().items()):
        report.figure(f"unshared memory, {role}", "MiB").add("rayrtc", 0, size / 2**20)
    return idle


BENCHMARK = EverythingElse()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
