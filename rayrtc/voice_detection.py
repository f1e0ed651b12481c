"""What a voice detector is, and how scores of short windows become stretches of speech."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypedDict, runtime_checkable

from rayrtc.audio import SampledAudio

RATE = 16_000
"""Hz at which voice detection works; the unit of `AudioChunk`."""
WINDOW = 512
"""Samples at `RATE` of one score: 32 ms."""

_HYSTERESIS = 0.15  # below threshold less this, speech has ended
_SPLIT_SILENCE = 0.098  # seconds of silence at which speech that is too long may be split

ModelOptions: TypeAlias = Any
"""Whatever the model in use takes; `SileroVadOptions` for the default one."""


class AudioChunk(TypedDict):
    """A stretch of speech, in samples at 16 kHz; `end` is the first one after it."""

    start: int
    end: int


class PauseDetectionModel(Protocol):
    """Finds speech in audio. Called on handler threads, several at once."""

    def vad(self, audio: SampledAudio, options: ModelOptions) -> tuple[float, list[AudioChunk]]:
        """Seconds of speech in `audio` (shape (n,) or (1, n)), and where it is."""
        ...

    def warmup(self) -> None:
        """Load what the first call would have to wait for."""


class VoiceStream(PauseDetectionModel, Protocol):
    """A detector that listens to one connection; its `vad` knows what was heard before."""

    @property
    def speaking_for(self) -> float:
        """Seconds that the speaker has been talking without a break until now; 0 in a break."""
        ...

    def hear(self, audio: SampledAudio) -> None:
        """Take the next audio of the connection, shape (n,)."""

    def close(self) -> None:
        """Give back what it holds."""


@runtime_checkable
class StreamingModel(Protocol):
    """A `PauseDetectionModel` that can listen to a connection without forgetting."""

    def stream(self, options: ModelOptions) -> VoiceStream:
        """A detector for one connection."""
        ...


@dataclass
class SileroVadOptions:
    """How scores become speech.

    Attributes:
        threshold: score (0 to 1) from which a window is speech.
        min_speech_duration_ms: shorter speech is none.
        max_speech_duration_s: longer speech is split, at its last short silence if it has one.
        min_silence_duration_ms: shorter silence does not end speech.
        window_size_samples: taken for compatibility; the model has windows of 512 samples.
        speech_pad_ms: added to both sides of each stretch.
    """

    threshold: float = 0.5
    min_speech_duration_ms: int = 250
    max_speech_duration_s: float = float("inf")
    min_silence_duration_ms: int = 2000
    window_size_samples: int = 1024
    speech_pad_ms: int = 400


def speech_chunks(
    scores: Sequence[float], length: int, options: SileroVadOptions
) -> list[AudioChunk]:
    """The stretches of speech in `length` samples at 16 kHz, of which each `WINDOW` has a score."""
    pad = round(options.speech_pad_ms * RATE / 1000)
    longest = options.max_speech_duration_s * RATE - WINDOW - 2 * pad
    found: list[AudioChunk] = []
    start: int | None = None
    silent: int | None = None  # where the silence began that speech is in
    pause: tuple[int, int] | None = None  # end of speech and its resumption, where a split is good

    def add(begin: int, end: int) -> None:
        if end - begin > options.min_speech_duration_ms * RATE / 1000:
            found.append({"start": begin, "end": end})

    for index, score in enumerate(scores):
        at = index * WINDOW
        if score >= options.threshold:
            if start is None:
                start = at
            elif silent is not None and at - silent > _SPLIT_SILENCE * RATE:
                pause = silent, at
            silent = None
        if start is None:
            continue
        if score < options.threshold - _HYSTERESIS:
            if silent is None:
                silent = at
            if at - silent >= options.min_silence_duration_ms * RATE / 1000:
                add(start, silent)
                start = silent = pause = None
                continue
        if at - start > longest:
            end, resumed = pause or (at, at)
            add(start, end)
            start, pause = resumed, None
    if start is not None:
        add(start, length)
    return _padded(found, pad, length)


def _padded(chunks: list[AudioChunk], pad: int, length: int) -> list[AudioChunk]:
    """`chunks` with `pad` samples on both sides; two neighbours share what is between them."""
    ends = [chunk["end"] for chunk in chunks]
    starts = [chunk["start"] for chunk in chunks]
    for index, chunk in enumerate(chunks):
        before = starts[index] if index == 0 else (starts[index] - ends[index - 1]) // 2
        last = index == len(chunks) - 1
        after = length - ends[index] if last else (starts[index + 1] - ends[index]) // 2
        chunk["start"] -= min(pad, before)
        chunk["end"] += min(pad, after)
    return chunks
