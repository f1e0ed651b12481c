"""Audio echo through an async handler at 24 kHz, 8 callers: CPU and the round trip it adds.

    python -m benchmarks.audio_async [--rounds 5]

Plain aiortc plays back what it received without a handler: no resampling, at 48 kHz.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.harness.report import Bar, Report
from benchmarks.load.protocol import Load


def judge_round_trip(report: Report) -> None:
    """The round trip is no longer than FastRTC's."""
    for percent in ("p50", "p99"):
        figure = report.figure(f"round trip {percent}", "ms")
        ours, theirs = figure.median("rayrtc", 8), figure.median("fastrtc", 8)
        if ours is not None and theirs is not None:
            report.bars.append(
                Bar(
                    demand=f"round trip {percent} <= FastRTC's {theirs:.1f} ms",
                    measured=ours,
                    limit=theirs,
                    unit="ms",
                )
            )


BENCHMARK = MediaBenchmark(
    name="audio_async",
    title="audio echo, async handler, 24 kHz",
    path="/echo-async",
    load=Load(url="", content="speech"),
    ratios=(("fastrtc", 0.33), ("aiortc", 0.33)),
    judge=judge_round_trip,
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
