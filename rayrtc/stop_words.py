"""What hears stop words: the protocol, and a recogniser on any speech-to-text model."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayrtc.audio import SampledAudio, audio_to_float32
from rayrtc.rate_converter import RateConverter
from rayrtc.speech_recognition import STTModel
from rayrtc.voice_detection import RATE

TRANSCRIBED = 2.0
"""Seconds of audio that are transcribed at once; a stop word has to fit."""
TRANSCRIPTION_INTERVAL = 0.5
"""Seconds between two transcriptions."""

QUIET = 0.002
"""Largest sample, of 1, of sound that nobody talks in, and that is not listened to."""


@dataclass(frozen=True)
class HeardStopWord:
    """A stop word, and for how many seconds the speaker has gone on since its end."""

    word: str
    ago: float = 0.0


class StopWordRecogniser(Protocol):
    """Listens to one connection for stop words. Called on one thread of the handler."""

    def hear(self, audio: SampledAudio) -> str | HeardStopWord | None:
        """Take the next audio, shape (n,); the stop word in it, if any.

        A `HeardStopWord` keeps what was said since the word for the reply; after a mere string the
        reply gets what comes next.
        """

    def reset(self) -> None:
        """Forget what was heard. Called after each stop word."""


StopWordRecognition: TypeAlias = Callable[[Sequence[str]], StopWordRecogniser]
"""Makes a recogniser of the given words for one connection."""


def stop_word_in(text: str, stop_words: Sequence[str]) -> str | None:
    """The first of `stop_words` in `text`, whatever their case, spaces and punctuation."""
    words = re.findall(r"\w+(?:'\w+)?", text.lower())
    spoken = f" {' '.join(words)} "
    for stop_word in stop_words:
        sought = " ".join(re.findall(r"\w+(?:'\w+)?", stop_word.lower()))
        if sought and f" {sought} " in spoken:
            return stop_word
    return None


def transcribing(model: STTModel) -> StopWordRecognition:
    """Finds stop words with a speech-to-text model: `recognition=transcribing(model)`.

    Twice a second the last two seconds are transcribed at 16 kHz, on the handler's thread, unless
    they are quiet.
    """
    return lambda stop_words: _Transcribing(model, stop_words)


class _Transcribing:
    def __init__(self, model: STTModel, stop_words: Sequence[str]) -> None:
        self._model = model
        self._stop_words = stop_words
        self.reset()

    def reset(self) -> None:
        self._converter: RateConverter | None = None
        self._heard: NDArray[np.float32] = np.zeros(0, np.float32)
        self._new = 0

    def hear(self, audio: SampledAudio) -> str | None:
        rate, samples = audio
        if self._converter is None:
            self._converter = RateConverter(rate, RATE)
        converted = self._converter.convert(audio_to_float32(samples))
        self._heard = np.concatenate((self._heard, converted))[-round(TRANSCRIBED * RATE) :]
        self._new += len(converted)
        if self._new < TRANSCRIPTION_INTERVAL * RATE:
            return None
        self._new = 0
        if np.abs(self._heard).max() < QUIET:
            return None
        return stop_word_in(self._model.stt((RATE, self._heard)), self._stop_words)
