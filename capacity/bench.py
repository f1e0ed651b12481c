"""`rayrtc bench`: ramps calls against a running deployment until a bound breaks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from capacity.generators import Generators
from capacity.probe import probe
from capacity.progress import Progress
from capacity.protocol import Target
from capacity.quality import Bounds, Quality
from capacity.ramp import Ramp, Verdict
from capacity.report import Report, Step

SETTLE = 2.0
"""Seconds between the last new call and the measurement."""


@dataclass(frozen=True)
class Options:
    """Of one test.

    Attributes:
        step: calls that are added at a time.
        most: calls that are tried at most.
        rate: calls a second that are begun.
        hold: seconds for which each step is measured.
        processes: that make the load.
    """

    target: Target
    bounds: Bounds
    step: int
    most: int
    rate: float
    hold: float
    processes: int


async def run(options: Options, progress: Progress, found: Callable[[Report], None]) -> None:
    """Find out the capacity. `found` is given the report when it begins, and it grows from then on.

    Cancelled, it ends all calls first.

    Raises:
        Unusable: no call can be made.
        GeneratorFailed: a process that makes load failed.
    """
    progress.tell(f"{options.target.url}: the first call")
    target = await probe(options.target)
    report = Report.of(target, options.bounds, options.hold, options.processes)
    found(report)
    progress.tell(f"starting {options.processes} load processes")
    async with Generators(target, options.processes) as generators:
        ramp = Ramp(options.step, options.most)
        while ramp.calls is not None:
            step = await _step(generators, ramp, options, progress)
            report.steps.append(step)
            report.capacity = ramp.carried
        report.ended, report.lower_bound = conclusion(ramp, report.steps)


async def _step(generators: Generators, ramp: Ramp, options: Options, progress: Progress) -> Step:
    """Measure with the calls that the ramp wants, and let it know."""
    wanted = ramp.calls
    assert wanted is not None
    what = f"{wanted} calls" + (" once more" if ramp.repeats else "")
    progress.tell(what, 0.0)
    if ramp.last in (Verdict.BROKEN, Verdict.GENERATOR):
        # what a handler has queued meanwhile delays its call for good: all calls are made anew
        await generators.set_calls(0, options.rate, lambda live: None)

    def on_live(live: int) -> None:
        progress.step(what, f"({live} connected)", live / wanted / 2)

    made = await generators.set_calls(wanted, options.rate, on_live)
    progress.step(what, "(measuring)", 0.5)
    await asyncio.sleep(SETTLE)
    sample = await generators.measure(options.hold)
    quality = Quality.of(wanted, made, sample)
    broken = quality.broken(options.bounds)
    verdict = judge(quality, broken)
    too_many = verdict is Verdict.BROKEN and not quality.full
    ramp.take(quality.calls if not too_many else wanted, verdict)
    return Step(quality=quality, broken=broken, verdict=verdict.value)


def judge(quality: Quality, broken: list[str]) -> Verdict:
    """Of one step."""
    if broken:
        return Verdict.GENERATOR if quality.generator_slow else Verdict.BROKEN
    return Verdict.FULL if quality.full else Verdict.CARRIED


def conclusion(ramp: Ramp, steps: list[Step]) -> tuple[str, bool]:
    """Why the ramp ended, and whether the deployment may carry more than was found."""
    last = steps[-1]
    if ramp.last is Verdict.GENERATOR:
        return (
            "the load generator is the limit: its packets were "
            f"{last.quality.generator_late * 1000:.0f} ms late, its busiest process took "
            f"{last.quality.generator_cpu:.0%} of a core, and its machine was "
            f"{last.quality.generator_machine:.0%} busy"
        ), True
    if ramp.last is Verdict.FULL and ramp.broken is None:
        return f"limit reached: slots, {_LIMITS[last.quality.full]}", False
    if ramp.broken is None and not last.broken:
        return "--max reached", True
    broke = next(
        (
            s
            for s in reversed(steps)
            if s.broken and ramp.broken in (s.quality.calls, s.quality.wanted)
        ),
        last,
    )
    return f"at {ramp.broken}: {'; '.join(broke.broken)}", False


_LIMITS = {
    "concurrency_limit_reached": "by the stream's concurrency_limit",
    "no_worker_available": "as no worker takes another call",
}
"""What the codes of `Quality.full` mean."""
