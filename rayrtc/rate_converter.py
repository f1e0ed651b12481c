"""A sample rate converter with state, in NumPy alone: good enough to listen for speech.

What the caller hears goes through FFmpeg in the workers; this one serves handlers, which have none.
"""

from functools import lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

ZERO_CROSSINGS = 8
"""Half width of the filter, in periods of the lower rate."""
PASS_BAND = 0.92
"""Part of the lower rate's band that passes."""


class RateConverter:
    """Converts consecutive blocks of mono audio without a click between them.

    Args:
        source: Hz of what `convert` takes.
        target: Hz of what it gives.
    """

    def __init__(self, source: int, target: int) -> None:
        divisor = gcd(source, target)
        self._same = source == target
        self._step = source // divisor
        self._phases = target // divisor
        self._filter = _filter(source // divisor, target // divisor)
        self._taps = self._filter.shape[1]
        self._rest = np.zeros(self._taps // 2, np.float32)
        self._next = 0
        """Position of the next output in `_rest`, in units of 1 / `_phases` samples."""

    def convert(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is complete with `samples`; both of shape (n,)."""
        if self._same:
            return samples
        rest = np.concatenate((self._rest, samples))
        last = (len(rest) - self._taps) * self._phases  # latest position with all its taps
        count = max(0, (last - self._next) // self._step + 1)
        positions = self._next + self._step * np.arange(count)
        starts, phases = np.divmod(positions, self._phases)
        windows = np.lib.stride_tricks.sliding_window_view(rest, self._taps)
        converted = np.einsum("ij,ij->i", windows[starts], self._filter[phases])
        following = self._next + self._step * count
        used = min(following // self._phases, len(rest))
        self._rest = rest[used:]
        self._next = following - used * self._phases
        return np.asarray(converted, np.float32)


@lru_cache(maxsize=16)
def _filter(step: int, phases: int) -> NDArray[np.float32]:
    """The windowed sinc for each position between two samples, shape (phases, taps)."""
    band = PASS_BAND * min(1.0, phases / step)
    half = ceil(ZERO_CROSSINGS / min(1.0, phases / step))
    distances = np.arange(2 * half)[None, :] - half - np.arange(phases)[:, None] / phases
    window = np.cos(np.pi * np.clip(distances / (2 * half), -0.5, 0.5)) ** 2
    taps = np.sinc(distances * band) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float32)
