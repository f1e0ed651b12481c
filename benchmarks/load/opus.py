"""Speech as Opus packets, encoded before the call, with tones in it that mark a moment.

Each second of the loop is speech, a short silence, and a tone burst that begins with a packet. The
burst is found again in what comes back by its sharp beginning after silence and by its frequency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np

from tests.speech import conversation

RATE = 48000
FRAME = 960
"""Samples of a packet: 20 ms."""
BITRATE = 32_000
"""What Chromium sends for speech in mono."""
SECONDS = 8
"""Length of the loop."""
SPEECH_FRAMES = 40
SILENCE_FRAMES = 5
BURST_FRAMES = 3
BURST_HERTZ = 1000.0
BLOCK = 120
"""Samples over which loudness is taken: 2.5 ms."""
LOUD, QUIET = 2500.0, 250.0
"""Effective values, of 32768."""
QUIET_BLOCKS = 16
"""Blocks of silence in front of a burst: 40 ms."""


@dataclass(frozen=True)
class Audio:
    """A loop of packets of 20 ms."""

    packets: tuple[bytes, ...]
    bursts: frozenset[int]
    """Which of them have the beginning of a burst."""


def encode(samples: np.ndarray) -> list[bytes]:
    """Mono int16 samples at 48 kHz as packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
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
    decoder.sample_rate = RATE
    decoder.layout = "stereo"
    decoder.format = "s16"
    decoded = []
    for payload in payloads:
        frames = decoder.decode(av.Packet(payload))
        parts = [frame.to_ndarray().reshape(-1)[:: len(frame.layout.channels)] for frame in frames]
        decoded.append(np.concatenate(parts) if parts else np.zeros(0, np.int16))
    return decoded


@lru_cache
def speech() -> Audio:
    """Speech of several voices with a burst each second."""
    talk = np.concatenate(conversation())
    talk = talk[: SECONDS * SPEECH_FRAMES * FRAME].reshape(SECONDS, -1)
    at = np.arange(BURST_FRAMES * FRAME) / RATE
    burst = (np.sin(2 * np.pi * BURST_HERTZ * at) * 12000).astype(np.int16)
    rest = 50 - SPEECH_FRAMES - SILENCE_FRAMES - BURST_FRAMES
    blocks = []
    for spoken in talk:
        fade = spoken.astype(float)
        fade[-FRAME:] *= np.linspace(1, 0, FRAME)
        silence = np.zeros(SILENCE_FRAMES * FRAME, np.int16)
        blocks += [fade.astype(np.int16), silence, burst, np.zeros(rest * FRAME, np.int16)]
    packets = encode(np.concatenate(blocks))
    first = SPEECH_FRAMES + SILENCE_FRAMES
    return Audio(tuple(packets), frozenset(range(first, len(packets), 50)))


@lru_cache
def silence() -> Audio:
    """A microphone in a silent room."""
    return Audio(tuple(encode(np.zeros(RATE, np.int16))), frozenset())


@lru_cache
def talk() -> Audio:
    """Speech with pauses of a second, so that `ReplyOnPause` answers as it does in a call."""
    pause = np.zeros(RATE, np.int16)
    parts = [part for spoken in conversation()[:4] for part in (spoken, pause)]
    return Audio(tuple(encode(np.concatenate(parts))), frozenset())


def burst_packets(decoded: Sequence[np.ndarray]) -> list[int]:
    """Which packets a burst begins in."""
    if not any(len(part) for part in decoded):
        return []
    samples = np.concatenate(decoded).astype(np.float64)
    ends = np.cumsum([len(part) for part in decoded])
    blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK)
    loudness = np.sqrt((blocks**2).mean(axis=1))
    loud, quiet = loudness > LOUD, loudness < QUIET
    found = []
    for block in np.flatnonzero(loud):
        # the block in which it begins may be neither
        before = quiet[max(0, block - 1 - QUIET_BLOCKS) : max(0, block - 1)]
        if len(before) < QUIET_BLOCKS or not before.all() or loud[block - 1]:
            continue
        start = block * BLOCK
        if _is_burst(samples[start : start + FRAME]):
            found.append(int(np.searchsorted(ends, start, side="right")))
    return found


def _is_burst(samples: np.ndarray) -> bool:
    if len(samples) < FRAME:
        return False
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    strongest = float(spectrum.argmax() * RATE / len(samples))
    return abs(strongest - BURST_HERTZ) <= 2 * RATE / FRAME
