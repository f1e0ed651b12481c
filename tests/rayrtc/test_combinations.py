"""Which handlers a stream takes; a wrong one is refused when the stream is made."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rayrtc import (
    AsyncStreamHandler,
    AudioVideoStreamHandler,
    Stream,
    StreamHandler,
    VideoStreamHandler,
)


class Audio(StreamHandler):
    def receive(self, frame: Any) -> None: ...

    def emit(self) -> None: ...

    def copy(self) -> "Audio":
        return Audio()


class AsyncAudio(AsyncStreamHandler):
    async def receive(self, frame: Any) -> None: ...

    async def emit(self) -> None: ...

    def copy(self) -> "AsyncAudio":
        return AsyncAudio()


class Both(AudioVideoStreamHandler):
    def receive(self, frame: Any) -> None: ...

    def emit(self) -> None: ...

    def video_receive(self, frame: Any) -> None: ...

    def video_emit(self) -> None: ...

    def copy(self) -> "Both":
        return Both()


def function(frame: Any) -> Any:
    return frame


async def coroutine(frame: Any) -> Any:
    return frame


def generator() -> Iterator[Any]:
    yield None


async def async_generator() -> AsyncIterator[Any]:
    yield None


MODES = ("send-receive", "send", "receive")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("modality", "handler"),
    [("audio", Audio()), ("audio", AsyncAudio()), ("audio-video", Both())],
)
def test_a_handler_class_serves_its_modality_in_every_mode(
    modality: Any, handler: Any, mode: Any
) -> None:
    assert Stream(handler, modality=modality, mode=mode).handler is handler


@pytest.mark.parametrize("mode", ["send-receive", "send"])
@pytest.mark.parametrize(
    "handler", [function, functools.partial(function), VideoStreamHandler(function)]
)
def test_a_function_serves_video(handler: Any, mode: Any) -> None:
    assert Stream(handler, mode=mode).modality == "video"


@pytest.mark.parametrize("modality", ["audio", "video", "audio-video"])
@pytest.mark.parametrize("handler", [generator, async_generator])
def test_a_generator_serves_every_modality_in_receive_mode(modality: Any, handler: Any) -> None:
    assert Stream(handler, modality=modality, mode="receive").mode == "receive"


@pytest.mark.parametrize(
    ("handler", "modality", "mode", "text"),
    [
        (function, "audio", "send-receive", "a StreamHandler or AsyncStreamHandler"),
        (function, "audio-video", "send", "AudioVideoStreamHandler"),
        (Audio(), "video", "send", "a VideoStreamHandler, or a function"),
        (Audio(), "audio-video", "send-receive", "got an instance of Audio"),
        (Both(), "audio", "send-receive", "got an instance of Both"),
        (VideoStreamHandler(function), "audio", "receive", "or a generator function"),
        (None, "video", "receive", "got an instance of NoneType"),
        (Audio, "audio", "send-receive", r"write Audio\(...\)"),
        (coroutine, "video", "send-receive", "cannot be async"),
        (async_generator, "video", "send", "cannot be async"),
        (coroutine, "video", "receive", "must yield"),
    ],
)
def test_another_handler_is_refused_with_what_fits(
    handler: Any, modality: Any, mode: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        Stream(handler, modality=modality, mode=mode)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r'modality must be one of .*"audio-video".*smell'):
        Stream(function, modality="smell")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode must be one of"):
        Stream(function, mode="both")  # type: ignore[arg-type]


def test_a_video_handler_is_checked() -> None:
    with pytest.raises(TypeError, match="callable"):
        VideoStreamHandler(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fps"):
        VideoStreamHandler(function, fps=0)
