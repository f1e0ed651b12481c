"""What a speed of the VP8 encoder costs and how good its picture is: 640x480, 1 Mbit/s.

    python -m benchmarks.vp8_speed

Codes the picture of `video_flip` five times over, by aiortc's encoder and by the worker's own at
several speeds. CPU is that of this process; PSNR compares the luma with what was coded.
"""

import time
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload
from rich.console import Console
from rich.table import Table

from benchmarks.load import vp8
from workers.vp8 import SPEED, SPEED_BEHIND, VP8Encoder

ROUNDS = 5
SPEEDS = (6, 8, SPEED, SPEED_BEHIND)


def frames() -> list[av.VideoFrame]:
    """The loop of pictures, several times."""
    made = []
    for number in range(ROUNDS * vp8.FRAMES):
        luma = vp8.video().pictures[number % vp8.FRAMES]
        chroma = np.full((vp8.HEIGHT // 2, vp8.WIDTH), 128, np.uint8)
        frame = av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format="yuv420p")
        frame.pts, frame.time_base = number * vp8.CLOCK // vp8.FPS, Fraction(1, vp8.CLOCK)
        made.append(frame)
    return made


def by_aiortc() -> Callable[[av.VideoFrame], bytes]:
    encoder = Vp8Encoder()
    encoder.target_bitrate = vp8.BITRATE
    return lambda frame: b"".join(map(vp8_depayload, encoder.encode(frame)[0]))


def by_speed(speed: int) -> Callable[[av.VideoFrame], bytes]:
    encoder = VP8Encoder(vp8.WIDTH, vp8.HEIGHT, vp8.BITRATE)
    encoder.set_speed(speed)
    return lambda frame: encoder.encode(frame, key=False)


def main() -> None:
    table = Table("encoder", "CPU, ms a frame", "PSNR, dB", "kbit/s")
    encoders = {"aiortc": by_aiortc()} | {f"speed {speed}": by_speed(speed) for speed in SPEEDS}
    for name, encode in encoders.items():
        sent = frames()  # FFmpeg changes their times
        begin = time.process_time()
        coded = [encode(frame) for frame in sent]
        cpu = (time.process_time() - begin) / len(sent)
        settled = slice(vp8.FRAMES, None)
        scores = [
            vp8.psnr(picture, frame.to_ndarray(format="yuv420p")[: vp8.HEIGHT].astype(np.float32))
            for picture, frame in zip(vp8.decode(coded)[settled], sent[settled], strict=True)
            if picture is not None
        ]
        bits = sum(map(len, coded[settled])) * 8 * vp8.FPS / len(coded[settled])
        table.add_row(name, f"{cpu * 1000:.2f}", f"{np.median(scores):.1f}", f"{bits / 1000:.0f}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
