"""Takes apart what handlers emit: media, outputs and the wish to end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayrtc.messages import AdditionalOutputs, CloseStream
from rayrtc.video import VideoArray
from workers.samples import Layout


class EmittedAudio(NamedTuple):
    """Samples to play, as `workers.samples.check` takes them."""

    rate: int
    samples: NDArray[Any]
    layout: Layout = "mono"


class Emitted(NamedTuple):
    """The parts of one result; any of them may be missing."""

    audio: EmittedAudio | None = None
    frame: VideoArray | None = None
    outputs: AdditionalOutputs | None = None
    close: CloseStream | None = None

    @property
    def empty(self) -> bool:
        """Whether there was nothing to say."""
        return (
            self.audio is None
            and self.frame is None
            and self.outputs is None
            and self.close is None
        )


def split(result: Any) -> Emitted:
    """The parts of what a handler of audio emitted.

    Raises:
        TypeError: it is none of the documented types.
    """
    return _split(result, _audio, _AUDIO)


def split_video(result: Any) -> Emitted:
    """The parts of what a handler of video emitted.

    Raises:
        TypeError: it is none of the documented types.
    """
    return _split(result, _frame, _VIDEO)


def split_audio_video(result: Any) -> Emitted:
    """The parts of what a generator of an audio-video stream yielded.

    Raises:
        TypeError: it is none of the documented types.
    """
    return _split(result, _audio_video, _AUDIO_VIDEO)


_Taker = Callable[[Any, str], Emitted]
"""Takes apart what is neither outputs nor an end; gets the text for a TypeError."""

_EXPECTED = "AdditionalOutputs, CloseStream, a tuple of media and one of these, or None"
_AUDIO = f"expected (rate, array), (rate, array, layout), {_EXPECTED}"
_VIDEO = f"expected a frame (an array of shape (height, width, 3)), {_EXPECTED}"
_AUDIO_VIDEO = f"expected a frame, (rate, array), (frame, (rate, array)), {_EXPECTED}"


def _split(result: Any, media: _Taker, expected: str) -> Emitted:
    if isinstance(result, AdditionalOutputs):
        return Emitted(outputs=result)
    if isinstance(result, CloseStream):
        return Emitted(close=result)
    if isinstance(result, tuple) and len(result) == 2:
        first, second = result
        if isinstance(second, AdditionalOutputs):
            return media(first, expected)._replace(outputs=second)
        if isinstance(second, CloseStream):
            return media(first, expected)._replace(close=second)
    return media(result, expected)


def _audio(value: Any, expected: str) -> Emitted:
    if value is None:
        return Emitted()
    if isinstance(value, tuple) and len(value) in (2, 3) and not isinstance(value[0], tuple):
        return Emitted(audio=EmittedAudio(*value))
    raise TypeError(f"the handler emitted {type(value).__name__}: {expected}")


def _frame(value: Any, expected: str) -> Emitted:
    if value is None or isinstance(value, np.ndarray):
        return Emitted(frame=value)
    raise TypeError(f"the handler emitted {type(value).__name__}: {expected}")


def _audio_video(value: Any, expected: str) -> Emitted:
    if value is None or isinstance(value, np.ndarray):
        return Emitted(frame=value)
    if isinstance(value, tuple) and len(value) == 2:
        frame, audio = value
        if frame is None or isinstance(frame, np.ndarray):
            return _audio(audio, expected)._replace(frame=frame)
    return _audio(value, expected)
