"""A moving picture as VP8 frames, encoded before the call, each with its number in it.

The number stands in the top rows as black and white fields, so in the bottom rows of what comes
back upside down. What is compared with what came back is the decoded picture, as the server saw it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from aiortc.codecs.vpx import VpxPayloadDescriptor

WIDTH, HEIGHT, FPS = 640, 480, 30
CLOCK = 90_000
FRAMES = 60
"""Length of the loop; each begins with a key frame."""
BITS = 6
STRIP = 16
"""Rows with the number."""
BITRATE = 1_000_000
PAYLOAD = 1200
"""Bytes of a packet's payload at most."""


@dataclass(frozen=True)
class Video:
    """A loop of frames."""

    frames: tuple[tuple[bytes, ...], ...]
    """The payloads of each frame's packets (RFC 7741)."""
    pictures: np.ndarray
    """The luma of each, decoded; (FRAMES, HEIGHT, WIDTH)."""


def packetize(frame: bytes) -> tuple[bytes, ...]:
    """An encoded frame as payloads with the shortest descriptor; the first has the start bit."""
    pieces = [frame[at : at + PAYLOAD - 1] for at in range(0, len(frame), PAYLOAD - 1)]
    return tuple((b"\x00" if at else b"\x10") + piece for at, piece in enumerate(pieces))


def _picture(number: int, texture: np.ndarray) -> av.VideoFrame:
    luma = np.roll(texture, (number * 2, number * 4), axis=(0, 1)).copy()
    x, y = 320 + 200 * np.sin(number * 2 * np.pi / FRAMES), 100 + number * 4
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    luma[(rows - y) ** 2 + (columns - x) ** 2 < 60**2] = 220
    for bit in range(BITS):
        field = slice(bit * WIDTH // BITS, (bit + 1) * WIDTH // BITS)
        luma[:STRIP, field] = 235 if number >> bit & 1 else 16
    chroma = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
    frame = av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format="yuv420p")
    frame.pts = number
    frame.time_base = Fraction(1, FPS)
    return frame


def _texture() -> np.ndarray:
    """Soft noise: neither flat nor beyond what the bit rate carries."""
    coarse = np.random.default_rng(3).normal(0, 1, (HEIGHT, WIDTH))
    spectrum = np.fft.rfft2(coarse)
    rows = np.fft.fftfreq(HEIGHT)[:, None]
    columns = np.fft.rfftfreq(WIDTH)[None, :]
    soft = np.fft.irfft2(spectrum / (1 + (np.hypot(rows, columns) * 200) ** 2), (HEIGHT, WIDTH))
    pixels: np.ndarray = np.clip(120 + soft / soft.std() * 35, 16, 235)
    return pixels.astype(np.uint8)


@lru_cache
def video() -> Video:
    """The loop; takes a second to encode."""
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height = WIDTH, HEIGHT
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, FPS)
    encoder.bit_rate = BITRATE
    encoder.gop_size = FRAMES
    encoder.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0"}
    texture = _texture()
    encoded: list[bytes] = []
    for number in range(FRAMES):
        encoded += [bytes(packet) for packet in encoder.encode(_picture(number, texture))]
    encoded += [bytes(packet) for packet in encoder.encode(None)]
    pictures = [picture for picture in decode(encoded) if picture is not None]
    assert len(encoded) == len(pictures) == FRAMES
    return Video(tuple(packetize(frame) for frame in encoded), np.stack(pictures))


def decode(frames: Sequence[bytes]) -> list[np.ndarray | None]:
    """The luma of each encoded frame; None for one that cannot be decoded."""
    decoder = av.CodecContext.create("libvpx", "r")
    pictures: list[np.ndarray | None] = []
    for frame in frames:
        try:
            decoded = decoder.decode(av.Packet(frame))
        except av.FFmpegError:
            decoded = []
        pictures.append(
            decoded[0].to_ndarray(format="yuv420p")[:HEIGHT].copy() if decoded else None
        )
    return pictures


def assemble(payloads: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Frames of consecutive payloads, given with their RTP timestamps."""
    frames: list[bytes] = []
    last = None
    for timestamp, payload in payloads:
        _, rest = VpxPayloadDescriptor.parse(payload)
        if timestamp == last:
            frames[-1] += rest
        else:
            frames.append(rest)
        last = timestamp
    return frames


def number_of(picture: np.ndarray) -> int:
    """The number of the frame that an upside-down picture shows."""
    strip = picture[HEIGHT - STRIP + 4 : HEIGHT - 4]
    fields = strip.reshape(len(strip), -1)
    number = 0
    for bit in range(BITS):
        left, right = bit * WIDTH // BITS, (bit + 1) * WIDTH // BITS
        number |= (float(fields[:, left + 8 : right - 8].mean()) > 126) << bit
    return number


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Of two luma planes, dB; 100 when they are the same."""
    error = float(((picture.astype(np.float32) - reference) ** 2).mean())
    return 100.0 if not error else float(10 * np.log10(255**2 / error))
