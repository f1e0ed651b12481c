"""A connection that has nothing to say: `emit` returns None at once, the caller is silent.

    python -m benchmarks.idle [--rounds 5]

FastRTC asks such a handler again without a pause, so one connection can fill its process.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="idle",
    title="idle connection, emit returns None",
    path="/idle",
    load=Load(url="", content="silence", echoes=False),
    systems=("rayrtc", "fastrtc"),
    connections=(1,),
    ratios=(("fastrtc", 0.05),),
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
