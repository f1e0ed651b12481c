"""What is heard between two turns, and when it counts as an utterance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class AlgoOptions:
    """When somebody talks, and when they have finished.

    Attributes:
        audio_chunk_duration: seconds of audio that are judged at once.
        started_talking_threshold: a chunk with more seconds of speech begins an utterance.
        speech_threshold: a chunk with fewer seconds of speech ends it.
        max_continuous_speech_s: seconds after which an utterance ends without a pause.
    """

    audio_chunk_duration: float = 0.6
    started_talking_threshold: float = 0.2
    speech_threshold: float = 0.1
    max_continuous_speech_s: float = float("inf")


@dataclass
class AppState:
    """What was heard since the last turn. `determine_pause` reads and changes it.

    Attributes:
        stream: the utterance so far, shape (n,).
        sampling_rate: Hz.
        pause_detected: what `determine_pause` said last.
        started_talking: whether the utterance has begun.
        responding: whether a reply is being made or played.
        buffer: audio that was not judged yet, shape (n,).
        before: the chunk before `buffer`, in which an utterance may have begun.
    """

    stream: NDArray[np.int16] | None = None
    sampling_rate: int = 0
    pause_detected: bool = False
    started_talking: bool = False
    responding: bool = False
    buffer: NDArray[np.int16] | None = None
    before: NDArray[np.int16] | None = None

    def new(self) -> "AppState":
        """The state after a turn."""
        return type(self)(sampling_rate=self.sampling_rate)
