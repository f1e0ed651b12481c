"""Video through a function that turns it upside down: 640x480, 30/s, VP8, 3 callers.

    python -m benchmarks.video_flip [--rounds 5]

All servers are allowed 1 Mbit/s. Three callers are what FastRTC carries in one process. The PSNR
tells whether the picture came back upside down at all, and how good it is.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.harness.report import Bar, Report
from benchmarks.load.protocol import Load

CALLS = 3
WORSE = 0.5
"""Decibels."""


def judge_quality(report: Report) -> None:
    """The picture is as good as FastRTC's."""
    quality = report.figure("PSNR", "dB")
    ours, theirs = quality.median("rayrtc", CALLS), quality.median("fastrtc", CALLS)
    if theirs is not None:
        report.bars.append(
            Bar(
                demand=f"PSNR below FastRTC's {theirs:.1f} dB by <= {WORSE} dB",
                measured=None if ours is None else theirs - ours,
                limit=WORSE,
                unit="dB",
            )
        )


BENCHMARK = MediaBenchmark(
    name="video_flip",
    title="video flip, 640x480 at 30/s, VP8",
    path="/flip",
    load=Load(kind="video", url="", warmup=5.0),
    connections=(CALLS,),
    ratios=(("fastrtc", 0.65),),
    judge=judge_quality,
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
