"""The mu-law of ITU-T G.711, by table: 8 bits a sample on the wire, 16 bits here."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BIAS = 0x84
_CLIP = 0x7FFF - _BIAS


def _decoding() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.uint8)  # sent inverted
    segment, step = (code >> 4) & 7, code & 15
    magnitude = ((step.astype(np.int32) << 3) + _BIAS << segment) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _encoding() -> NDArray[np.uint8]:
    """The code of each 16-bit sample, by its bits as an unsigned number.

    G.711 has samples of 14 bits: the two lowest are cut off, so that of two codes the same value
    always gets the same one.
    """
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(samples >> 2 << 2), _CLIP) + _BIAS
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    code = (segment << 4) | ((magnitude >> (segment + 3)) & 15)
    signed: NDArray[np.uint8] = (code | np.where(samples < 0, 0x80, 0)).astype(np.uint8)
    return np.invert(signed)


_DECODED: Final = _decoding()
_ENCODED: Final = _encoding()


def decode(data: bytes) -> NDArray[np.int16]:
    """The samples of mu-law bytes."""
    return _DECODED.take(np.frombuffer(data, np.uint8))


def encode(samples: NDArray[np.int16]) -> bytes:
    """The mu-law bytes of 16-bit samples of any shape, in their order."""
    return _ENCODED.take(samples.reshape(-1).view(np.uint16)).tobytes()
