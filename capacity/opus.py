"""Sound as Opus packets of 20 ms, encoded before the call, and back after it."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import av
import numpy as np

RATE = 48000
FRAME = 960
"""Samples of a packet: 20 ms."""
BITRATE = 32_000
"""What Chromium sends for speech in mono."""


@lru_cache
def encoded(sound: Callable[[int], np.ndarray]) -> tuple[bytes, ...]:
    """The packets of one of `sound`'s."""
    return tuple(encode(sound(RATE)))


def encode(samples: np.ndarray) -> list[bytes]:
    """Mono int16 samples at 48 kHz as packets."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = RATE
    encoder.layout = "mono"
    encoder.format = "s16"
    encoder.bit_rate = BITRATE
    encoder.options = {"application": "voip"}
    packets = []
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        piece = np.ascontiguousarray(samples[start : start + FRAME], np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def decode(payloads: Sequence[bytes]) -> list[np.ndarray]:
    """The samples of each packet, first channel, at 48 kHz."""
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate = RATE
    decoder.layout = "stereo"
    decoder.format = "s16"
    decoded = []
    for payload in payloads:
        frames = decoder.decode(av.Packet(payload))
        parts = [frame.to_ndarray().reshape(-1)[:: len(frame.layout.channels)] for frame in frames]
        decoded.append(np.concatenate(parts) if parts else np.zeros(0, np.int16))
    return decoded
