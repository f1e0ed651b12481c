"""A day of calls with workers that come and go: by calls, as the pool does, and by CPU.

    python -m benchmarks.autoscale [--results DIRECTORY]

A simulation in steps of a second; nothing is started. Calls come at random around a rate with two
busy times a day, and with a crowd of a quarter of an hour; they last three minutes on average, some
much longer. A worker takes calls a minute after it was asked for (a machine has to start), and
leaves when its calls have ended.

* by calls: `workers.pool.plan` and `workers.demand.Demand`, and the choice of a worker as in
  `reserve.lua`: the less loaded of two, of those that are not spare.
* by CPU: Kubernetes' HorizontalPodAutoscaler with its defaults (each 15 s, 10 % tolerance, 300 s of
  stabilisation before it shrinks) on the mean CPU of the last 30 s. A full worker has a load of
  70 %. Several targets, since each trades refused calls for idle workers.

Idle cost is the hours of workers beyond those that the calls would fill.
"""

import argparse
import heapq
import json
import math
import random
import subprocess
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.table import Table

from benchmarks.harness.command import parse, terminal
from benchmarks.harness.environments import ROOT, python_of
from workers.demand import Demand
from workers.pool import PoolLimits, PoolWorker, WorkerPhase, plan

DAY = 86_400
SLOTS = 8
START = 60
"""Seconds from the wish for a worker until it takes calls."""
PEAK = 0.5
"""Calls a second at the busiest time, but for the crowd."""
LENGTH = 180.0
"""Seconds of a call, on average."""
FULL = 0.7
"""CPU load of a worker whose slots are taken."""
LEAST = 2
"""Workers."""
TARGETS = (0.40, 0.45, 0.50, 0.52, 0.54, 0.56, 0.60)
REFUSED = 0.001
"""Share of the calls that may be refused."""
CHEAPER = 0.9
"""Idle cost by that of the cheapest target of CPU that keeps to `REFUSED`."""
SEEDS = (1, 2, 3)
"""Days."""


@dataclass
class Worker:
    """One of the simulated workers."""

    ready: int
    calls: int = 0
    idle_since: int = 0
    draining: bool = False
    spare: bool = False


@dataclass
class Pool:
    """The workers at a moment; `arrived` counts all calls."""

    workers: dict[int, Worker] = field(default_factory=dict)
    arrived: int = 0

    def serving(self) -> dict[int, Worker]:
        """Those that do not leave."""
        return {key: each for key, each in self.workers.items() if not each.draining}


class Policy(Protocol):
    """Decides each second; returns how many workers to start, and drains those that are to go."""

    def step(self, now: int, pool: Pool) -> int: ...


class ByCalls:
    """The product's own plan."""

    def __init__(self) -> None:
        self._limits = PoolLimits(LEAST, 1000, SLOTS, max_sessions=2**60, memory_max=2**60)
        self._demand = Demand()
        self._demand.started(START)
        self._arrived = 0
        self._oversized: int | None = None

    def step(self, now: int, pool: Pool) -> int:
        serving = pool.serving()
        calls = sum(each.calls for each in serving.values())
        self._demand.observe(pool.arrived - self._arrived, calls, now)
        self._arrived = pool.arrived
        views = [
            PoolWorker(
                str(key),
                WorkerPhase.READY if each.ready <= now else WorkerPhase.STARTING,
                "1",
                calls=each.calls,
                idle_for=0.0 if each.calls else now - max(each.idle_since, each.ready),
                spare=each.spare,
            )
            for key, each in serving.items()
        ]
        oversized = 0.0 if self._oversized is None else float(now - self._oversized)
        current = plan(views, [], self._limits, "1", oversized, buffer=self._demand.buffer)
        if len(serving) <= current.wanted:
            self._oversized = None
        elif self._oversized is None:
            self._oversized = now
        for key, each in serving.items():
            each.spare = str(key) in current.spare
            each.draining = str(key) in current.drain
        return len(current.start)


class ByCPU:
    """Kubernetes' HorizontalPodAutoscaler.

    Args:
        target: mean CPU load that it aims at.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._loads: deque[float] = deque(maxlen=30)
        self._wishes: deque[tuple[int, int]] = deque()

    def step(self, now: int, pool: Pool) -> int:
        serving = pool.serving()
        ready = [each for each in serving.values() if each.ready <= now]
        self._loads.append(FULL * sum(e.calls for e in ready) / SLOTS / max(1, len(ready)))
        if now % 15:
            return 0
        ratio = sum(self._loads) / len(self._loads) / self._target
        wanted = len(serving)
        if abs(ratio - 1) > 0.1:
            # those that start count as idle where that would make the pool grow
            wanted = math.ceil((len(ready) if ratio > 1 else len(serving)) * ratio)
        wanted = max(wanted, LEAST)
        self._wishes.append((now, wanted))
        while self._wishes[0][0] <= now - 300:
            self._wishes.popleft()
        if wanted >= len(serving):
            return wanted - len(serving)
        surplus = len(serving) - max(wish for _, wish in self._wishes)
        for each in sorted(serving.values(), key=lambda e: (e.ready <= now, e.calls))[:surplus]:
            each.draining = True
        return 0


@dataclass
class Outcome:
    """Of one day."""

    calls: int = 0
    refused: int = 0
    worker_seconds: int = 0
    taken: float = 0.0
    """Worker-seconds that the calls would fill."""
    course: list[tuple[int, int]] = field(default_factory=list)
    """Calls and workers, each five minutes."""

    @property
    def share(self) -> float:
        """Of the calls, that were refused."""
        return self.refused / self.calls

    @property
    def idle_hours(self) -> float:
        return (self.worker_seconds - self.taken) / 3600


def rate(now: float) -> float:
    """Calls a second at a time of the day."""
    hour = now / 3600
    busy = 0.9 * math.exp(-(((hour - 11) / 2.2) ** 2)) + math.exp(-(((hour - 16) / 2.8) ** 2))
    crowd = 2.2 if 13 * 3600 <= now < 13 * 3600 + 900 else 1.0
    return PEAK * (0.08 + 0.92 * busy) * crowd


def day(seed: int) -> list[tuple[float, float]]:
    """When calls come and how long they last."""
    draw_from = random.Random(seed)
    most = PEAK * 2.4
    calls, now = [], 0.0
    while now < DAY:
        now += draw_from.expovariate(most)
        if draw_from.random() < rate(now) / most:
            length = draw_from.lognormvariate(math.log(LENGTH) - 0.5, 1.0)
            calls.append((now, min(3600.0, length)))
    return calls


def simulate(policy: Policy, calls: list[tuple[float, float]], seed: int) -> Outcome:
    """Run a day."""
    choose = random.Random(seed)
    pool = Pool({key: Worker(ready=0) for key in range(LEAST)})
    ends: list[tuple[float, int]] = []
    outcome, names, at = Outcome(calls=len(calls)), LEAST, 0
    for now in range(DAY):
        while ends and ends[0][0] <= now:
            worker = pool.workers[heapq.heappop(ends)[1]]
            worker.calls -= 1
            worker.idle_since = now
        while at < len(calls) and calls[at][0] < now + 1:
            begin, length = calls[at]
            at += 1
            pool.arrived += 1
            key = _chosen(pool, now, choose)
            if key is None:
                outcome.refused += 1
                continue
            pool.workers[key].calls += 1
            heapq.heappush(ends, (begin + length, key))
        taken = sum(each.calls for each in pool.workers.values())
        outcome.worker_seconds += len(pool.workers)
        outcome.taken += taken / SLOTS
        if not now % 300:
            outcome.course.append((taken, len(pool.workers)))
        for _ in range(policy.step(now, pool)):
            pool.workers[names] = Worker(ready=now + START)
            names += 1
        for key, each in list(pool.workers.items()):
            if each.draining and not each.calls:
                del pool.workers[key]
    return outcome


def _chosen(pool: Pool, now: int, choose: random.Random) -> int | None:
    """The less loaded of two that can take a call; spare ones only if there is no other."""
    can = [key for key, each in pool.serving().items() if each.ready <= now and each.calls < SLOTS]
    drawn = [key for key in can if not pool.workers[key].spare] or can
    if not drawn:
        return None
    return min(choose.sample(drawn, min(2, len(drawn))), key=lambda key: pool.workers[key].calls)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results: Path = parse(parser).results
    console = terminal()
    table = Table("policy", "refused", "idle, worker-hours a day", "workers at most")
    outcomes: dict[str, list[Outcome]] = {}
    for name in ("calls", *(f"CPU {target:.0%}" for target in TARGETS)):
        outcomes[name] = [
            simulate(
                ByCalls() if name == "calls" else ByCPU(int(name[4:-1]) / 100), day(seed), seed
            )
            for seed in SEEDS
        ]
        days = outcomes[name]
        table.add_row(
            name,
            f"{_refused(days):.4%}",
            f"{_idle(days):.1f}",
            str(max(workers for each in days for _, workers in each.course)),
        )
    console.print(table)
    fit = [name for name in outcomes if name != "calls" and _refused(outcomes[name]) <= REFUSED]
    best = min(fit, key=lambda name: _idle(outcomes[name]))
    ratio = _idle(outcomes["calls"]) / _idle(outcomes[best])
    refused = _refused(outcomes["calls"])
    for met, demand in (
        (refused <= REFUSED, f"refused {refused:.4%} <= {REFUSED:.1%}"),
        (ratio <= CHEAPER, f"idle cost by that of {best}: {ratio:.2f} <= {CHEAPER}"),
    ):
        console.print(f"  {'met   ' if met else 'missed'} {demand}")
    results = results / "autoscale"
    results.mkdir(parents=True, exist_ok=True)
    courses = {name: outcomes[name][0].course for name in ("calls", best)}
    (results / "day.json").write_text(json.dumps({"slots": SLOTS, "courses": courses}))
    program = [str(python_of("plots")), str(ROOT / "benchmarks" / "plots.py"), str(results)]
    subprocess.run(program, check=True, timeout=120)
    console.print(f"  {results / 'day.png'}", style="dim", soft_wrap=True)


def _refused(days: list[Outcome]) -> float:
    return sum(each.refused for each in days) / sum(each.calls for each in days)


def _idle(days: list[Outcome]) -> float:
    return sum(each.idle_hours for each in days) / len(days)


if __name__ == "__main__":
    main()
