"""`ReplyOnPause` that listens to silence, 8 callers.

    python -m benchmarks.listening_silence [--rounds 5]

FastRTC is given rayrtc's voice detector, as its own is a download.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="listening_silence",
    title="ReplyOnPause listening to silence",
    path="/pause",
    load=Load(url="", content="silence", echoes=False),
    systems=("rayrtc", "fastrtc"),
    ratios=(("fastrtc", 0.33),),
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
