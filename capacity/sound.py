"""What callers say, as samples, with tones in it that mark a moment.

Each second is speech, a short silence, and a tone burst that begins with a packet. The burst is
found again in what comes back by its sharp beginning after silence; its frequency is the number of
the second, so that no burst is taken for another one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from capacity.conversation import conversation

PACKETS = 50
"""A second."""
SECONDS = 8
"""Length of the loop."""
SPEECH_PACKETS = 40
SILENCE_PACKETS = 5
BURST_PACKETS = 3
BURST_HERTZ = tuple(500.0 + 150.0 * number for number in range(SECONDS))
"""Frequencies, by number."""
LOUD, QUIET = 2500.0, 250.0
"""Effective values, of 32768."""
BLOCKS = 400
"""A second, over each of which loudness is taken."""
QUIET_BLOCKS = 16
"""Of silence in front of a burst: 40 ms."""

BURSTS = frozenset(range(SPEECH_PACKETS + SILENCE_PACKETS, SECONDS * PACKETS, PACKETS))
"""Packets of `speech_with_bursts` that have the beginning of a burst."""


class Burst(NamedTuple):
    """One that was found."""

    packet: int
    """In which it begins."""
    number: int
    """Of the second, 0 to `SECONDS` - 1."""


def number_of(packet: int) -> int:
    """The number of the burst that begins in a packet of `speech_with_bursts`."""
    return packet // PACKETS % SECONDS


def turn_with_bursts(rate: int) -> np.ndarray:
    """Someone who talks for five seconds, and then listens for three."""
    return speech_with_bursts(rate, talking=5)


def speech_with_bursts(rate: int, talking: int = SECONDS) -> np.ndarray:
    """Speech of several voices, `SECONDS` long, int16; after `talking` seconds silence."""
    size = rate // PACKETS
    spoken = np.concatenate(conversation(rate))[: SECONDS * SPEECH_PACKETS * size]
    at = np.arange(BURST_PACKETS * size) / rate
    silence = np.zeros(SILENCE_PACKETS * size)
    rest = np.zeros((PACKETS - SPEECH_PACKETS - SILENCE_PACKETS - BURST_PACKETS) * size)
    parts = []
    for number, second in enumerate(spoken.reshape(SECONDS, -1).astype(float)):
        second[-size:] *= np.linspace(1, 0, size)
        second *= number < talking
        burst = np.sin(2 * np.pi * BURST_HERTZ[number] * at) * 12000
        parts += [second, silence, burst, rest]
    return np.concatenate(parts).astype(np.int16)


def talk(rate: int) -> np.ndarray:
    """Four utterances with pauses of a second, so that `ReplyOnPause` answers as in a call."""
    pause = np.zeros(rate, np.int16)
    parts = [part for spoken in conversation(rate)[:4] for part in (spoken, pause)]
    return np.concatenate(parts)


def silence(rate: int) -> np.ndarray:
    """A second in a silent room."""
    return np.zeros(rate, np.int16)


def find_bursts(decoded: Sequence[np.ndarray], rate: int) -> list[Burst]:
    """The bursts, in the order in which they came.

    Args:
        decoded: the samples of each packet, in order.
        rate: Hz.
    """
    if not any(len(part) for part in decoded):
        return []
    samples = np.concatenate(decoded).astype(np.float64)
    ends = np.cumsum([len(part) for part in decoded])
    block = rate // BLOCKS
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    loudness = np.sqrt((blocks**2).mean(axis=1))
    loud, quiet = loudness > LOUD, loudness < QUIET
    found = []
    for at in np.flatnonzero(loud):
        # the block in which it begins may be neither
        before = quiet[max(0, at - 1 - QUIET_BLOCKS) : max(0, at - 1)]
        if len(before) < QUIET_BLOCKS or not before.all() or loud[at - 1]:
            continue
        start = int(at) * block
        number = _number_of(samples[start : start + rate // PACKETS], rate)
        if number is not None:
            found.append(Burst(int(np.searchsorted(ends, start, side="right")), number))
    return found


def _number_of(samples: np.ndarray, rate: int) -> int | None:
    """The number of the burst whose first 20 ms these are; None when it is none."""
    if len(samples) < rate // PACKETS:
        return None
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    strongest = float(spectrum.argmax() * rate / len(samples))
    distances = [abs(strongest - hertz) for hertz in BURST_HERTZ]
    nearest = min(range(SECONDS), key=distances.__getitem__)
    return nearest if distances[nearest] <= 1.5 * PACKETS else None
