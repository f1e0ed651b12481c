"""A microphone into which recorded speech, noise or tones are played.

The recordings were made with espeak-ng 1.51 and cut so that they begin and end with speech.
"""

import asyncio
import fractions
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError

from tests.clients import FRAME, RATE, ToneTrack

SPEECH = Path(__file__).parent / "fixtures" / "speech"
UTTERANCES = ("weather", "story", "computer")


def recording(name: str, rate: int = RATE) -> np.ndarray:
    """The samples of an utterance."""
    with wave.open(str(SPEECH / f"{name}.wav")) as file:
        recorded, data = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(data, "<i2").reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = recorded
    resampler = av.AudioResampler("s16", "mono", rate)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray().reshape(-1) for part in parts])


def noise(seconds: float, rate: int = RATE, level: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(7).normal(0, level * 32767, round(seconds * rate))
    return np.clip(samples, -32768, 32767).astype(np.int16)


def tone(seconds: float, frequency: float = 440.0, rate: int = RATE) -> np.ndarray:
    at = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * frequency * at) * 12000).astype(np.int16)


def tinted(seconds: float, power: Callable[[np.ndarray], np.ndarray], level: float) -> np.ndarray:
    """Noise with a spectrum.

    Args:
        power: relative power at frequencies in Hz.
        level: the effective value, of full scale.
    """
    white = np.random.default_rng(11).normal(0, 1, round(seconds * RATE))
    frequencies = np.fft.rfftfreq(len(white), 1 / RATE)
    samples = np.fft.irfft(np.fft.rfft(white) * np.sqrt(power(frequencies)), len(white))
    clipped: np.ndarray = np.clip(samples / samples.std() * level * 32767, -32768, 32767)
    return clipped.astype(np.int16)


def pink(seconds: float, level: float = 0.1) -> np.ndarray:
    return tinted(seconds, lambda hertz: 1 / np.maximum(hertz, 20), level)


def crowd(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise with the spectrum of speech, swelling at the rate of syllables."""
    steady = tinted(seconds, lambda f: (f > 80) / (1 + (f / 500) ** 2) ** 2, level)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(len(steady)) / RATE)
    return (steady * swell).astype(np.int16)


def hum(seconds: float, level: float = 0.1) -> np.ndarray:
    """50 Hz from the mains and six harmonics."""
    at = np.arange(round(seconds * RATE)) / RATE
    waves = sum(np.sin(2 * np.pi * 50 * number * at + number) / number for number in range(1, 8))
    return np.asarray(waves * level * 32767, np.int16)


def not_speech() -> dict[str, np.ndarray]:
    """What a microphone hears when nobody talks; every sound begins out of silence."""
    return {
        "white noise": noise(1.5),
        "loud noise": noise(1.0, level=0.3),
        "pink noise": pink(1.5),
        "crowd": crowd(1.5),
        "hum": hum(1.0),
        "tone": tone(1.5),
        "low tone": tone(1.0, 200.0),
        "faint tone": tone(1.0, 200.0) // 32,
        "dial tone": tone(1.0, 350.0) // 2 + tone(1.0, 440.0) // 2,
    }


class Microphone(ToneTrack):
    """Sends what it is told to say in real time, and room noise of -66 dB else."""

    def __init__(self) -> None:
        super().__init__(0)
        self._saying = np.zeros(0, np.int16)
        self._room = noise(1.0, level=0.0005)
        self._said = asyncio.Event()
        self.began = 0.0
        """Time (`time.monotonic`) when the first frame of what was said last was sent."""
        self.ended = 0.0
        """Time when the last one was sent."""

    async def say(self, samples: np.ndarray) -> None:
        """Play `samples`; returns when they were sent."""
        self.began = 0.0
        self._said.clear()
        self._saying = samples
        await self._said.wait()

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if not self._count:
            self._begin = time.monotonic()
        await asyncio.sleep(max(0.0, self._begin + self._count * 0.02 - time.monotonic()))
        offset = self._count * FRAME % len(self._room)
        samples = np.resize(np.roll(self._room, -offset), FRAME)
        if len(self._saying):
            if not self.began:
                self.began = time.monotonic()
            spoken, self._saying = self._saying[:FRAME], self._saying[FRAME:]
            samples[: len(spoken)] = spoken
            if not len(self._saying):
                self.ended = time.monotonic()
                self._said.set()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._count * FRAME
        frame.time_base = fractions.Fraction(1, RATE)
        self._count += 1
        return frame
