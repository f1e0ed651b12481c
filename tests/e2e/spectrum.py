"""Where the energy of a sound is."""

import numpy as np


def peak(samples: np.ndarray, rate: int) -> float:
    """Frequency in Hz of the strongest component of a 1-D signal.

    The signal is windowed, so a pure tone is found within half a bin: `rate / len(samples) / 2`.
    """
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    spectrum[0] = 0
    return float(np.argmax(spectrum) * rate / len(samples))
