"""Mu-law for test clients, apart from the product's own: each sample gets the nearest code."""

import numpy as np


def _value(code: int) -> int:
    """ITU-T G.711, table 2, in 16 bits: three bits of exponent, four of mantissa, all inverted."""
    code = ~code & 0xFF
    magnitude = (((code & 15) * 2 + 33) << ((code >> 4) & 7)) * 4 - 132
    return -magnitude if code & 0x80 else magnitude


_VALUES = np.array([_value(code) for code in range(256)], np.int16)
_SORTED = np.argsort(_VALUES, kind="stable")
_BORDERS = (_VALUES[_SORTED][1:].astype(int) + _VALUES[_SORTED][:-1]) / 2


def decode(data: bytes) -> np.ndarray:
    """int16 samples."""
    return _VALUES[np.frombuffer(data, np.uint8)]


def encode(samples: np.ndarray) -> bytes:
    """Of int16 samples of any shape, in their order."""
    return _SORTED[np.searchsorted(_BORDERS, samples.reshape(-1))].astype(np.uint8).tobytes()
