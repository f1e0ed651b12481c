"""Samples as handlers emit them, in one form."""

from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

Layout = Literal["mono", "stereo"]
CHANNELS: dict[str, int] = {"mono": 1, "stereo": 2}


class Samples(NamedTuple):
    """A piece of sound.

    Attributes:
        rate: Hz.
        channels: 1 or 2.
        data: shape (n * channels,), interleaved.
    """

    rate: int
    channels: int
    data: NDArray[np.int16]

    def with_channels(self, channels: int) -> "Samples":
        """As loud with another number of channels."""
        if channels == self.channels:
            return self
        if channels == 2:
            return self._replace(channels=2, data=np.repeat(self.data, 2))
        mixed = (self.data[::2].astype(np.int32) + self.data[1::2]) >> 1
        return self._replace(channels=1, data=mixed.astype(np.int16))

    def to_frame(self) -> AudioFrame:
        """For PyAV."""
        layout = "mono" if self.channels == 1 else "stereo"
        frame = AudioFrame.from_ndarray(self.data.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = self.rate
        frame.time_base = Fraction(1, self.rate)
        return frame


def check(rate: int, samples: NDArray[Any], layout: Layout) -> Samples | None:
    """What a handler emitted; None when it is empty.

    Args:
        rate: Hz, 1,000 to 384,000.
        samples: 16-bit integers or floats from -1 to 1; shape (n,) or (1, n), for stereo
            interleaved, or (2, n) with one row for each channel.
        layout: "mono" or "stereo".

    Raises:
        TypeError: wrong type of `rate` or `samples`.
        ValueError: wrong shape, rate or layout.
    """
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"audio must be a NumPy array, got {type(samples).__name__}")
    if not isinstance(rate, int | np.integer):
        raise TypeError(f"the sample rate must be an integer, got {type(rate).__name__}")
    if not 1_000 <= rate <= 384_000:
        raise ValueError(f"a sample rate of {rate} Hz is out of range")
    channels = CHANNELS.get(layout)
    if channels is None:
        raise ValueError(f'the layout must be "mono" or "stereo", got {layout!r}')
    data = samples
    if data.ndim == 2 and data.shape[0] == 2 and channels == 2:
        data = data.T  # planar to interleaved
    elif data.ndim != 1 and not (data.ndim == 2 and data.shape[0] == 1):
        raise ValueError(f"{layout} audio of shape {data.shape} is not supported")
    if data.size % channels:
        raise ValueError("stereo audio has an odd number of samples")
    if data.dtype != np.int16:
        data = _from_floats(data)
    return None if data.size == 0 else Samples(int(rate), channels, data.reshape(-1))


def _from_floats(samples: NDArray[Any]) -> NDArray[np.int16]:
    if not np.issubdtype(samples.dtype, np.floating):
        raise TypeError(f"audio must be int16 or float32, got {samples.dtype}")
    scaled = np.rint(np.nan_to_num(samples.astype(np.float32)) * 32768)
    return np.clip(scaled, -32768, 32767).astype(np.int16)
