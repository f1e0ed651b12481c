"""Video through a function that turns it upside down: 640x480, 30/s, VP8, 3 callers.

    python -m benchmarks.video_flip [--rounds 5]

All servers are allowed 1 Mbit/s. Three callers are what FastRTC carries in one process.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="video_flip",
    title="video flip, 640x480 at 30/s, VP8",
    path="/flip",
    load=Load(kind="video", url="", warmup=5.0),
    connections=(3,),
    ratios=(("fastrtc", 0.65),),
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
