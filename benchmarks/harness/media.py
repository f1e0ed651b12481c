"""Benchmarks of media: the same load against each system in turn, several rounds."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.harness.measurement import LoadFailed, Measurement, measure
from benchmarks.harness.process_tree import cpu_between, sample
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import SYSTEMS, System
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress

MEDIA = "CPU of the media process"
ALL = "CPU of all processes"
ADDED = "CPU of all processes, beyond the idle tree"
DELIVERED = "received by sent"
PER_CALL = "ms per connection-second"
ENOUGH = 0.98
"""Of what was sent has to come back, or a system was overloaded and its cost says little."""
IDLE_SECONDS = 5.0
"""At the beginning of each round, some seconds after the last call."""
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class MediaBenchmark:
    """A row of the table.

    Attributes:
        name: of the module.
        path: of the stream.
        load: what the callers do; `url` and `connections` are filled in.
        systems: measured in turn, in this order.
        connections: how many callers; each number is measured in each round.
        ratios: demands: the cost of rayrtc by that of another system, at most.
        whole_tree: whether the ratios are of all processes instead of those with the media.
        judge: adds demands of its own to the report.
    """

    name: str
    title: str
    path: str
    load: Load
    systems: Sequence[str] = ("rayrtc", "fastrtc", "aiortc")
    connections: Sequence[int] = (8,)
    ratios: tuple[tuple[str, float], ...] = ()
    whole_tree: bool = False
    judge: Callable[[Report], None] | None = None

    def run(self, rounds: int, progress: Progress) -> Report:
        """Start all systems, measure them in turn, stop them."""
        report = Report(benchmark=self.name, title=self.title, rounds=rounds)
        with ExitStack() as running:
            systems: list[System] = []
            for name in self.systems:
                progress.tell(f"{self.name}: starting {name}")
                systems.append(running.enter_context(SYSTEMS[name]()))
            for number in range(rounds):
                self._round(number, rounds, systems, report, progress)
        self._judge(report)
        return report

    def _round(
        self, number: int, rounds: int, systems: list[System], report: Report, progress: Progress
    ) -> None:
        round_ = f"{self.name}: round {number + 1}/{rounds}"
        idle: dict[str, float] = {}
        time.sleep(SETTLE_SECONDS)
        for system in systems:
            progress.tell(f"{round_}, {system.name} without a call", number / rounds)
            idle[system.name] = put_down_idle(system, report, memory=number == 0)
        for connections in self.connections:
            for system in systems:
                what = f"{round_}, {system.name} x {connections}"
                progress.tell(what)
                load = self.load.model_copy(
                    update={"url": system.url + self.path, "connections": connections}
                )
                try:
                    measured = measure(system, load, partial(progress.step, what))
                except LoadFailed as failure:
                    # perhaps too many calls for this system; the others are measured
                    report.note(str(failure))
                    continue
                put_down(measured, report, echoes=load.echoes)
                added = measured.tree - idle[system.name] / connections
                report.figure(ADDED, PER_CALL).add(system.name, connections, added)

    def _judge(self, report: Report) -> None:
        figure = report.figure(ALL if self.whole_tree else MEDIA, PER_CALL)
        for connections in self.connections:
            ours = figure.median("rayrtc", connections)
            kept_up = 1.0
            if self.load.echoes:
                kept_up = report.figure(DELIVERED, "").median("rayrtc", connections) or 0.0
            for other, limit in self.ratios:
                theirs = figure.median(other, connections)
                if not theirs:
                    continue
                ratio = ours / theirs if ours is not None and kept_up >= ENOUGH else None
                demand = f"{figure.name} x {connections}: rayrtc by {other} <= {limit}"
                report.bars.append(Bar(demand=demand, measured=ratio, limit=limit))
        if self.judge is not None:
            self.judge(report)


def put_down_idle(system: System, report: Report, *, memory: bool) -> float:
    """Add what a system uses while nobody calls; milliseconds of CPU a second.

    Args:
        memory: its memory as well, which does not all go back after calls.
    """
    before = sample(system.roots())
    time.sleep(IDLE_SECONDS)
    after = sample(system.roots())
    cpu = sum(cpu_between(before, after).values()) * 1000 / IDLE_SECONDS
    report.figure("idle tree, CPU", "ms/s").add(system.name, 0, cpu)
    if memory:
        unshared = sum(after.unique_memory().values()) / 2**20
        report.figure("idle tree, unshared memory", "MiB").add(system.name, 0, unshared)
    return cpu


def put_down(measured: Measurement, report: Report, *, echoes: bool = True) -> None:
    """Add one measurement to the figures of a report."""
    system, connections, load = measured.system, measured.connections, measured.load

    def add(name: str, unit: str, value: float) -> None:
        report.figure(name, unit).add(system, connections, value)

    add(MEDIA, PER_CALL, measured.media)
    add(ALL, PER_CALL, measured.tree)
    for role, seconds in sorted(measured.cpu.items()):
        add(f"CPU of role: {role}", "ms/s", seconds * 1000 / measured.seconds)
    media = sum(measured.memory.get(role, 0) for role in ("worker", "server"))
    add("resident memory of the media process", "MiB", media / 2**20)
    if echoes:
        add(DELIVERED, "", measured.delivered)
    else:
        add("received by a caller", "1/s", load.received / connections / measured.seconds)
    if load.lost:
        add("packets lost on the way back", "", load.lost)
    if load.markers:
        add("markers that came back, share", "", len(load.round_trips) / load.markers)
        add("round trip p50", "ms", percentile(load.round_trips, 50) * 1000)
        add("round trip p99", "ms", percentile(load.round_trips, 99) * 1000)
    if load.psnr is not None:
        add("PSNR", "dB", load.psnr)
    if load.bitrate:
        add("bit rate received", "kbit/s", load.bitrate / 1000)
    generator = load.generator_cpu * 1000 / connections / measured.seconds
    add("load generator, CPU", PER_CALL, generator)
    add("load generator, late p99", "ms", load.late_p99 * 1000)
    if measured.ended:
        report.note(f"{system}: processes ended during a measurement")
    if echoes and measured.delivered < ENOUGH:
        report.note(f"{system} at {connections} connections did not keep up in some round")
