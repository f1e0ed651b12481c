"""Handlers that take or give video: functions of frames, generators, and classes with sound too.

A frame is a NumPy array of 8-bit blue, green and red, of shape (height, width, 3).
"""

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayrtc.handlers import AsyncStreamHandler, Audio, AudioEmitType, StreamHandler
from rayrtc.messages import AdditionalOutputs, CloseStream

VideoArray: TypeAlias = NDArray[np.uint8]
VideoEmitType: TypeAlias = (
    VideoArray
    | AdditionalOutputs
    | CloseStream
    | tuple[VideoArray | None, AdditionalOutputs | CloseStream]
    | None
)
AudioVideoEmitType: TypeAlias = (
    AudioEmitType
    | VideoEmitType
    | tuple[VideoArray | None, Audio | None]
    | tuple[tuple[VideoArray | None, Audio | None], AdditionalOutputs | CloseStream]
)
"""What a generator of an audio-video stream yields: sound, a frame, or both as (frame, sound)."""

VideoFunction: TypeAlias = Callable[..., VideoEmitType | Iterator[VideoEmitType]]
"""`f(frame, *args)` for a stream that sends video; `f(*args)` for one that only receives it."""
GeneratorFunction: TypeAlias = Callable[
    ..., Iterator[AudioVideoEmitType] | AsyncIterator[AudioVideoEmitType]
]
"""`f(*args)` for a stream in receive mode."""


@dataclass(frozen=True)
class VideoStreamHandler:
    """A video function and how it is fed.

    Args:
        callable: called with each frame and the arguments of `set_input`; in receive mode a
            generator function that is called with the arguments alone.
        fps: frames per second shown to the client at most.
        skip_frames: hand over the newest frame only. Otherwise frames that arrive during a call
            wait, for a quarter of a second at most.

    Raises:
        TypeError: `callable` cannot be called.
        ValueError: `fps` is not positive.
    """

    callable: VideoFunction
    fps: int = 30
    skip_frames: bool = False

    def __post_init__(self) -> None:
        if not callable(self.callable):
            raise TypeError(f"a video handler must be callable, got {self.callable!r}")
        if self.fps <= 0:
            raise ValueError(f"fps must be positive, got {self.fps}")


class AudioVideoStreamHandler(StreamHandler):
    """A `StreamHandler` with video: two more functions, on two more threads."""

    @abstractmethod
    def video_receive(self, frame: VideoArray) -> None:
        """Take a frame: blue, green, red, shape (height, width, 3). Late ones are left out."""

    @abstractmethod
    def video_emit(self) -> VideoEmitType:
        """The next frame, outputs, end, or None when there is nothing. May block."""

    @abstractmethod
    def copy(self) -> Self:
        """A fresh handler for one connection."""


class AsyncAudioVideoStreamHandler(AsyncStreamHandler):
    """An `AsyncStreamHandler` with video: two more coroutines on the worker's event loop."""

    @abstractmethod
    async def video_receive(self, frame: VideoArray) -> None:
        """Take a frame: blue, green, red, shape (height, width, 3). Late ones are left out."""

    @abstractmethod
    async def video_emit(self) -> VideoEmitType:
        """The next frame, outputs, end, or None when there is nothing."""

    @abstractmethod
    def copy(self) -> Self:
        """A fresh handler for one connection."""


AudioVideoStreamHandlerImpl: TypeAlias = AudioVideoStreamHandler | AsyncAudioVideoStreamHandler
"""Any handler of sound and video."""
HandlerType: TypeAlias = (
    StreamHandler | AsyncStreamHandler | VideoStreamHandler | Callable[..., Any]
)
"""What `Stream` takes; `rayrtc.combinations` says which for which modality and mode."""
