"""What does it cost to listen? CPU of `ReplyOnPause.receive` for a second of audio of a connection.

    python -m benchmarks.voice_detection

It is the thread's own CPU time, so other work on the machine changes little. FastRTC's detector is
not compared: its model has to be downloaded.
"""

import asyncio
import time

import numpy as np

from capacity.conversation import conversation
from rayrtc import ReplyOnPause
from tests.speech import RATE, noise

FRAME = RATE // 50


class Nobody:
    """A channel to no client."""

    def send(self, message: str) -> None:
        pass


def listening(samples: np.ndarray, loop: asyncio.AbstractEventLoop) -> float:
    """Milliseconds of CPU for each second of `samples`."""
    handler = ReplyOnPause(lambda audio: None).copy()
    handler.bind(loop, Nobody(), lambda: None, lambda: False)
    frames = [samples[at : at + FRAME].reshape(1, -1) for at in range(0, len(samples), FRAME)]
    begin = time.thread_time()
    for frame in frames:
        handler.receive((RATE, frame))
    spent = time.thread_time() - begin
    handler.shutdown()
    return spent * 1000 / (len(samples) / RATE)


def main() -> None:
    pause = noise(1.5, level=0.0005)
    sounds = {
        "silence": np.zeros(30 * RATE, np.int16),
        "room noise, -66 dB": noise(30, level=0.0005),
        "room noise, -50 dB": noise(30, level=0.003),
        "white noise, -20 dB": noise(30),
        "speech with pauses": np.concatenate([x for one in conversation() for x in (one, pause)]),
        "speech": np.concatenate(conversation()),
    }
    loop = asyncio.new_event_loop()
    print(f"{'':20} ms of CPU for each second of a connection, of three runs the least")
    for name, samples in sounds.items():
        print(f"{name:20} {min(listening(samples, loop) for _ in range(3)):6.2f}", flush=True)
    loop.close()


if __name__ == "__main__":
    main()
