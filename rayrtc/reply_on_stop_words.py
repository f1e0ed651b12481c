"""`ReplyOnStopWords`: replies to what is said after a stop word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rayrtc.messages import create_message
from rayrtc.phoneme_search import PhonemeRecogniser
from rayrtc.reply_on_pause import ReplyFunction, ReplyOnPause
from rayrtc.stop_words import HeardStopWord, StopWordRecogniser, StopWordRecognition
from rayrtc.utterance import AlgoOptions, AppState
from rayrtc.voice_detection import ModelOptions, PauseDetectionModel, StreamingModel

REMEMBERED = 3.0
"""Seconds of audio that are kept until a recogniser has made up its mind."""


@dataclass
class ReplyOnStopWordsState(AppState):
    """What was heard since the last turn, and whether the stop word was.

    Attributes:
        stop_word_detected: whether what comes is for the reply.
        recent: the last audio before the stop word was detected, shape (n,).
    """

    stop_word_detected: bool = False
    recent: NDArray[np.int16] | None = None


class ReplyOnStopWords(ReplyOnPause):
    """`ReplyOnPause` that waits for a stop word; the client is told of it by `stopword`.

    The reply function gets what is said after the word, until a pause. The word, not mere speech,
    ends a reply that is playing.

    Args:
        stop_words: words or phrases, whatever their case.
        recognition: what hears them; by default a phoneme search, for English.
        fn and the others: as for `ReplyOnPause`.
    """

    state_type = ReplyOnStopWordsState

    def __init__(
        self,
        fn: ReplyFunction,
        stop_words: Sequence[str],
        startup_fn: ReplyFunction | None = None,
        algo_options: AlgoOptions | None = None,
        model_options: ModelOptions | None = None,
        can_interrupt: bool = True,
        expected_layout: Literal["mono", "stereo"] = "mono",
        output_sample_rate: int = 24000,
        output_frame_size: int | None = None,
        input_sample_rate: int = 48000,
        model: PauseDetectionModel | None = None,
        needs_args: bool = False,
        *,
        recognition: StopWordRecognition = PhonemeRecogniser,
    ) -> None:
        super().__init__(
            fn,
            startup_fn,
            algo_options,
            model_options,
            can_interrupt,
            expected_layout,
            output_sample_rate,
            output_frame_size,
            input_sample_rate,
            model,
            needs_args,
        )
        self.stop_words = list(stop_words)
        self.recognition = recognition
        self._recogniser: StopWordRecogniser | None = None
        self._detection = self.model

    def copy(self) -> Self:
        clone = super().copy()
        clone._recogniser = self.recognition(self.stop_words)
        clone._detection = self.model
        return clone

    def process_audio(self, audio: tuple[int, NDArray[np.int16]], state: AppState) -> None:
        assert isinstance(state, ReplyOnStopWordsState)
        if state.stop_word_detected:
            super().process_audio(audio, state)
            return
        rate, samples = audio
        state.sampling_rate = rate
        recent = samples if state.recent is None else np.concatenate((state.recent, samples))
        state.recent = recent[-round(REMEMBERED * rate) :]
        assert self._recogniser is not None
        heard = self._recogniser.hear(audio)
        if heard is None:
            return
        self._recogniser.reset()
        word, ago = (heard.word, heard.ago) if isinstance(heard, HeardStopWord) else (heard, 0.0)
        state.stop_word_detected = True
        self.send_message_sync(create_message("stopword", word))
        since = min(round(ago * rate), len(state.recent))
        self._forget_speech()
        for at in range(len(state.recent) - since, len(state.recent), len(samples)):
            later = rate, state.recent[at : at + len(samples)]
            if self._stream is not None:
                self._stream.hear(later)
            super().process_audio(later, state)

    def _forget_speech(self) -> None:
        """Take a new detector, so that the stop word itself is no beginning of an utterance."""
        if self._stream is not None and isinstance(self._detection, StreamingModel):
            self._stream.close()
            self.model = self._stream = self._detection.stream(self.model_options)

    def interrupts(self, state: AppState) -> bool:
        return isinstance(state, ReplyOnStopWordsState) and state.stop_word_detected
