"""What a connection costs at 1, 8, 32 and 64 on one worker: CPU, memory, round trip.

    python -m benchmarks.scaling [--rounds 5]

A system that does not keep up shows a low cost, as it does less: its share received says so.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import DELIVERED, ENOUGH, MEDIA, PER_CALL, MediaBenchmark
from benchmarks.harness.report import Bar, Report
from benchmarks.load.protocol import Load

CONNECTIONS = (1, 8, 32, 64)


def judge(report: Report) -> None:
    """64 connections cost no more each than 8; what each adds to the memory."""
    cost = report.figure(MEDIA, PER_CALL)
    few, many = cost.median("rayrtc", 8), cost.median("rayrtc", 64)
    if few and many is not None:
        kept_up = (report.figure(DELIVERED, "").median("rayrtc", 64) or 0.0) >= ENOUGH
        report.bars.append(
            Bar(
                demand="CPU of the media process: 64 connections by 8, each <= 1",
                measured=many / few if kept_up else None,
                limit=1.0,
            )
        )
    memory = report.figure("resident memory of the media process", "MiB")
    for system in ("rayrtc", "fastrtc"):
        least, most = (memory.median(system, number) for number in (1, CONNECTIONS[-1]))
        if least is not None and most is not None:
            added = (most - least) / (CONNECTIONS[-1] - 1)
            report.figure("resident memory per connection", "MiB").add(system, 64, added)


BENCHMARK = MediaBenchmark(
    name="scaling",
    title="audio echo, async handler, 24 kHz, by number of connections",
    path="/echo-async",
    load=Load(url="", content="speech"),
    systems=("rayrtc", "fastrtc"),
    connections=CONNECTIONS,
    judge=judge,
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
