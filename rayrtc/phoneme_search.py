"""The default recogniser of stop words: finds their phonemes in what a phoneme model hears.

The model is that of the `hama` wheel (`rayrtc[stopwords]`): 5 MB, English, 60 ms of CPU for a
second of sound, without the GIL. It says for each 20 ms how likely each phoneme is. A word costs
what its phonemes are less likely than the likeliest ones; any word may be a stop word, as the wheel
also knows how words are pronounced.
"""

import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayrtc.audio import SampledAudio, audio_to_float32
from rayrtc.rate_converter import RateConverter
from rayrtc.stop_words import QUIET, HeardStopWord
from rayrtc.voice_detection import RATE

COST = 1.0
"""What a word may cost for each of its phonemes, in nats; less hears less and invents less. Chosen
by benchmarks/stop_words.py."""
MISSED = 8.0
"""What a phoneme costs at most, and so one that was not heard at all."""
SIMILAR = 1.5
"""What a similar phoneme costs in place of the right one."""
PIECE = RATE // 2
"""Samples that are looked at together."""
BEFORE = RATE * 6 // 10
"""Samples before a piece that the model hears to understand it."""
AFTER = RATE * 3 // 10
"""Samples after it."""
FRAME = 320
"""Samples of one row of likelihoods."""
LONGEST = 12
"""Frames that a phoneme and the pause after it may take on average: 0.24 s."""

_SIMILAR_TO = {
    "ə": "ʌ ɝ æ ɪ ɛ i ɑ",
    "ɝ": "ə ʌ ɹ ɔ",
    "ɪ": "i ə ɛ",
    "i": "ɪ",
    "ɛ": "æ ɪ eɪ",
    "æ": "ɛ ɑ a",
    "ɑ": "ɔ ʌ oʊ æ a",
    "ɔ": "ɑ oʊ",
    "oʊ": "ɔ u ʊ",
    "u": "ʊ",
    "ʊ": "u",
    "eɪ": "ɛ e",
    "aɪ": "ɑ æ",
    "aʊ": "æ ɑ",
    "t": "d",
    "d": "t",
    "p": "b",
    "b": "p",
    "k": "g",
    "g": "k",
    "s": "z",
    "z": "s",
    "t͡ʃ": "ʃ",
    "d͡ʒ": "t͡ʃ",
    "v": "f b",
    "f": "v",
    "θ": "f",
    "ð": "d",
    "n": "ŋ",
    "m": "n",
}
"""What speakers, accents and the model say for each other."""


class PhonemeModel(Protocol):
    """What is used of the wheel."""

    phonemes: dict[str, int]
    """The column of each."""
    pauses: list[int]
    """Columns of what may be between two phonemes."""

    def pronounce(self, words: str) -> list[str]: ...

    def likelihoods(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithms, shape (frames, columns), of 16 kHz samples."""


class HamaModel:
    """The model of the `hama` wheel. May be used from any thread.

    Raises:
        ImportError: hama is not installed, or not for this machine.
    """

    def __init__(self) -> None:
        try:
            from hama.asr import ASRModel
            from hama.inference import G2PModel
        except ImportError as error:
            raise ImportError(
                "the default for stop words needs `pip install rayrtc[stopwords]`; "
                "or pass `recognition`, such as transcribing(model)"
            ) from error
        self._acoustic: Any = ASRModel()
        self._pronunciation: Any = G2PModel()
        self._pronounced: dict[str, list[str]] = {}  # those of the handlers of a process
        self._lock = threading.Lock()  # nothing says that two threads may use one
        tokens = self._acoustic.decoder_tokens
        self.phonemes = {token: column for column, token in enumerate(tokens)}
        self.pauses = [self.phonemes["<blank>"], self.phonemes["<wb>"]]

    def pronounce(self, words: str) -> list[str]:
        with self._lock:
            known = self._pronounced.get(words)
            if known is None:
                found = self._pronunciation.predict(words).alignments
                known = self._pronounced[words] = [entry.phoneme for entry in found]
            return known

    def likelihoods(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = {
            "waveform": samples.reshape(1, -1),
            "waveform_lengths": np.array([len(samples)], np.int64),
        }
        with self._lock:
            likelihoods, lengths = self._acoustic.session.run(["log_probs", "out_lengths"], inputs)
        return np.asarray(likelihoods[0][: int(np.ravel(lengths)[0])], np.float32)


class PhonemeRecogniser:
    """Listens for words by their phonemes.

    Args:
        stop_words: English words or phrases, in Latin letters.
        cost: see `COST`.

    Raises:
        ImportError: hama is not installed (`rayrtc[stopwords]`).
        ValueError: a stop word cannot be pronounced.
    """

    def __init__(self, stop_words: Sequence[str], *, cost: float = COST) -> None:
        self._model = get_phoneme_model()
        self._words = [(word, Search(self._model, word, cost)) for word in stop_words]
        self.reset()

    def reset(self) -> None:
        self._converter: RateConverter | None = None
        self._heard: NDArray[np.float32] = np.zeros(0, np.float32)
        self._before = 0  # samples of `_heard` that have been searched
        for _, search in self._words:
            search.reset()

    def hear(self, audio: SampledAudio) -> HeardStopWord | None:
        rate, samples = audio
        if self._converter is None:
            self._converter = RateConverter(rate, RATE)
        converted = self._converter.convert(audio_to_float32(samples))
        self._heard = np.concatenate((self._heard, converted))
        while len(self._heard) >= self._before + PIECE + AFTER:
            found = self._look()
            if found is not None:
                return found
        return None

    def _look(self) -> HeardStopWord | None:
        """Search the next piece."""
        context = self._heard[: self._before + PIECE + AFTER]
        first = self._before // FRAME
        count = PIECE // FRAME
        silent = np.abs(context[self._before :]).max() < QUIET
        rows = None if silent else self._model.likelihoods(context)[first : first + count]
        self._before += PIECE
        found = None
        for word, search in self._words:
            if rows is None:
                search.rest(count)
                continue
            frame = search.look(rows)
            if frame is not None and found is None:
                ended = self._before - PIECE + (frame + 1) * FRAME
                found = HeardStopWord(word, max(0.0, (len(self._heard) - ended) / RATE))
        used = max(0, self._before - BEFORE)
        self._heard, self._before = self._heard[used:], self._before - used
        return found


class Search:
    """The cheapest way to hear one word, frame by frame (Viterbi over its phonemes and pauses)."""

    def __init__(self, model: PhonemeModel, word: str, cost: float) -> None:
        spelled = " ".join(re.findall(r"\w+(?:'\w+)?", word.lower()))
        phonemes = [name for name in model.pronounce(spelled) if name in model.phonemes]
        if len(phonemes) < 2:
            raise ValueError(f"the English model cannot pronounce {word!r}")
        self._exact = [model.phonemes[name] for name in phonemes]
        columns = model.phonemes
        self._similar = [
            [columns[other] for other in _SIMILAR_TO.get(name, "").split() if other in columns]
            for name in phonemes
        ]
        self._pauses = model.pauses
        self._limit = cost * len(phonemes)
        self._longest = LONGEST * len(phonemes)
        self.reset()

    def reset(self) -> None:
        count = len(self._exact)
        # of the cheapest way that ends in each phoneme, and in the pause after it: cost, frames
        self._cost = np.full((2, count), np.inf)
        self._age = np.zeros((2, count), np.int64)

    def rest(self, frames: int) -> None:
        """Go on over `frames` of silence."""
        self._cost[1] = self._cost.min(axis=0)
        self._age[1] = self._age.max(axis=0) + frames
        self._cost[0] = np.inf

    def look(self, rows: NDArray[np.float32]) -> int | None:
        """The first of `rows` in which the word is complete; all are searched."""
        found = None
        for frame, (phonemes, pause) in enumerate(zip(*self._costs(rows), strict=True)):
            better = self._cost.argmin(axis=0)
            cost = np.take_along_axis(self._cost, better[None], 0)[0]
            age = np.take_along_axis(self._age, better[None], 0)[0]
            # into each phoneme: from itself, or from the phoneme or pause before it
            from_before = np.concatenate(([0.0], cost[:-1]))
            age_before = np.concatenate(([0], age[:-1]))
            stays = self._cost[0] < from_before
            self._cost = np.stack(
                (np.where(stays, self._cost[0], from_before) + phonemes, cost + pause)
            )
            self._age = np.stack((np.where(stays, self._age[0], age_before), age)) + 1
            self._cost[self._age > self._longest] = np.inf
            if self._cost[0, -1] <= self._limit and found is None:
                found = frame
        return found

    def _costs(self, rows: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of each phoneme of the word and of a pause, in each row; 0 for what is likeliest."""
        likeliest = rows.max(axis=1)
        heard = rows[:, self._exact].copy()
        for index, others in enumerate(self._similar):
            if others:
                similar = rows[:, others].max(axis=1) - SIMILAR
                heard[:, index] = np.maximum(heard[:, index], similar)
        pause = np.logaddexp.reduce(rows[:, self._pauses], axis=1)
        costs = np.clip(likeliest[:, None] - heard, 0, MISSED)
        return costs, np.clip(likeliest - pause, 0, MISSED)


@lru_cache
def get_phoneme_model() -> HamaModel:
    """The model of this process. It is loaded when it is first used."""
    return HamaModel()
