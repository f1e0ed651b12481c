"""Audio echo through a sync handler at 24 kHz, 8 callers.

python -m benchmarks.audio_sync [--rounds 5]
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="audio_sync",
    title="audio echo, sync handler, 24 kHz",
    path="/echo-sync",
    load=Load(url="", content="speech"),
    systems=("rayrtc", "fastrtc"),
    ratios=(("fastrtc", 0.40),),
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
