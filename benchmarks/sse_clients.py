"""2,000 SSE clients on one replica: Redis connections, events delivered, memory of each.

    python -m benchmarks.sse_clients [--rounds 5]

Twenty connections whose handlers emit an output each second, each with a hundred readers.
"""

from functools import partial

import redis

from benchmarks.harness.command import run_alone
from benchmarks.harness.measurement import measure
from benchmarks.harness.process_tree import sample
from benchmarks.harness.report import Bar, Report
from benchmarks.harness.systems import Rayrtc
from benchmarks.load.outputs import ARRIVED
from benchmarks.load.protocol import Load
from capacity.arrivals import percentile
from capacity.progress import Progress

CALLS = 20
READERS = (10, 100)
"""Of each call."""
FEW, CLIENTS = (CALLS * readers for readers in READERS)


class SSEClients:
    """rayrtc alone, with few and with many clients in turn."""

    name = "sse_clients"

    def run(self, rounds: int, progress: Progress) -> Report:
        report = Report(
            benchmark=self.name, title=f"{CLIENTS} SSE clients on one replica", rounds=rounds
        )
        progress.tell(f"{self.name}: starting")
        with Rayrtc() as system:
            for number in range(1, rounds + 1):
                for readers in READERS:
                    what = f"{self.name}: round {number}/{rounds}, {CALLS * readers} clients"
                    progress.tell(what, (number - 1) / rounds)
                    self._measure(system, readers, report, partial(progress.step, what))
        connections = report.figure("Redis connections", "")
        few = connections.median("rayrtc", FEW) or 0.0
        many = connections.median("rayrtc", CLIENTS)
        delivered = report.figure("delivered to the client that got the least", "")
        missing = 1 - (delivered.median("rayrtc", CLIENTS) or 0.0)
        report.bars += [
            Bar(demand=f"Redis connections as with {FEW} clients", measured=many, limit=few),
            Bar(demand="share of events missing at any client", measured=missing, limit=0.0),
        ]
        return report

    def _measure(self, system: Rayrtc, readers: int, report: Report, tell: partial[None]) -> None:
        clients = CALLS * readers
        before = sample(system.roots()).memory()["control plane"]
        counted = 0

        def at(step: str) -> None:
            nonlocal counted
            tell(step)
            if step == "end":
                with redis.Redis(port=system.stack.redis_port) as store:
                    counted = len(store.client_list()) - 1

        load = Load(
            kind="outputs",
            url=system.url + "/seconds",
            connections=CALLS,
            content="silence",
            warmup=5.0,
            readers=readers,
        )
        measured = measure(system, load, at)

        def add(name: str, unit: str, value: float) -> None:
            report.figure(name, unit).add(system.name, clients, value)

        add("Redis connections", "", counted)
        add("delivered to the client that got the least", "", measured.load.least)
        add("events delivered", "1/s", measured.load.received / (measured.seconds - ARRIVED))
        for percent in (50, 99):
            delays = measured.load.timings["output"]
            add(f"output to SSE client p{percent}", "ms", percentile(delays, percent) * 1000)
        memory = measured.memory["control plane"] - before
        add("memory of the replica for each client", "KiB", memory / clients / 1024)
        cpu = measured.cpu["control plane"] * 1000 / measured.seconds
        add("CPU of the replica", "ms/s", cpu)


BENCHMARK = SSEClients()

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
