"""Mu-law echo over WebSocket, 8 to 64 callers: all processes, as here a proxy passes messages on.

python -m benchmarks.websocket [--rounds 5]
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="websocket",
    title="WebSocket mu-law echo, async handler, 24 kHz",
    path="/echo-async",
    load=Load(kind="websocket", url=""),
    systems=("rayrtc", "fastrtc"),
    connections=(8, 32, 64),
    ratios=(("fastrtc", 1.0),),
    whole_tree=True,
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
