"""What the application does to media and what clients expect of it: numbers and pictures.

Sound is mono, pictures are arrays of 8-bit blue, green and red, of shape (height, width, 3).
"""

import numpy as np

INPUTS = [0.5]
"""What each client posts to `/input_hook`: the strength. It is 1 until then."""
FREQUENCY = 660.0
"""Hz of the tone of the streams in receive mode."""
LEVEL = 0.2
"""Root mean square of that tone at strength 1; 1 is a square wave of full scale."""
GREY = 110
"""Brightness of the pictures of the streams in receive mode, beside the stamp and the square."""
SHAPE = (240, 320, 3)
"""Of those pictures."""
SQUARE = 40
"""Pixels: the side of the white square in them, and how far it has moved in the next one."""


def tone(count: int, rate: int, size: int, strength: float) -> np.ndarray:
    """Chunk number `count` of the tone: `size` int16 samples of shape (1, size)."""
    at = np.arange(count * size, (count + 1) * size) / rate
    wave = np.sin(2 * np.pi * FREQUENCY * at) * (LEVEL * np.sqrt(2) * strength * 32767)
    return wave.astype(np.int16).reshape(1, -1)


def level(samples: np.ndarray) -> float:
    """Root mean square of float samples or of int16 ones, the same for both."""
    scale = 32768 if samples.dtype == np.int16 else 1
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64) / scale))))


def frequency(samples: np.ndarray, rate: int) -> float:
    """Hz of the strongest component, within half a bin (`rate / size / 2`)."""
    samples = samples.reshape(-1)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    spectrum[0] = 0
    return float(spectrum.argmax() * rate / samples.size)


def mirrored(picture: np.ndarray) -> np.ndarray:
    """Left and right swapped."""
    return picture[:, ::-1]


def stamped(picture: np.ndarray, strength: float) -> np.ndarray:
    """With its left quarter painted blue, as bright as `strength` (0 to 1)."""
    picture = picture.copy()
    picture[:, : picture.shape[1] // 4] = (round(255 * strength), 0, 0)
    return picture


def painted(count: int, strength: float) -> np.ndarray:
    """Picture number `count` of a stream in receive mode: grey, a white square walks through it."""
    picture = np.full(SHAPE, GREY, np.uint8)
    left = count * SQUARE % SHAPE[1]
    picture[100 : 100 + SQUARE, left : left + SQUARE] = 255
    return stamped(picture, strength)


def stamp(picture: np.ndarray) -> np.ndarray:
    """The mean blue, green and red of the stamp, away from its edges."""
    return picture[8:-8, 8 : picture.shape[1] // 4 - 8].mean(axis=(0, 1))


def beside_stamp(picture: np.ndarray) -> np.ndarray:
    """What is right of the stamp."""
    return picture[:, picture.shape[1] // 4 :]
