"""`ReplyOnPause` that listens to speech, 8 callers.

    python -m benchmarks.listening_speech [--rounds 5]

FastRTC is given rayrtc's voice detector, as its own is a download.
"""

from benchmarks.harness.command import run_alone
from benchmarks.harness.media import MediaBenchmark
from benchmarks.load.protocol import Load

BENCHMARK = MediaBenchmark(
    name="listening_speech",
    title="ReplyOnPause listening to speech",
    path="/pause",
    load=Load(url="", content="talk", echoes=False),
    systems=("rayrtc", "fastrtc"),
    ratios=(("fastrtc", 0.33),),
)

if __name__ == "__main__":
    run_alone(BENCHMARK, __doc__)
