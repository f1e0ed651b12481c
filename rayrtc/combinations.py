"""Which handlers a stream takes for its modality and mode."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

from rayrtc.handlers import AsyncStreamHandler, StreamHandler
from rayrtc.video import (
    AsyncAudioVideoStreamHandler,
    AudioVideoStreamHandler,
    HandlerType,
    VideoStreamHandler,
)

Modality = Literal["video", "audio", "audio-video"]
Mode = Literal["send-receive", "send", "receive"]
Kind = Literal["audio handler", "audio-video handler", "video handler", "function"]

_CLASSES: dict[Modality, Kind] = {
    "audio": "audio handler",
    "audio-video": "audio-video handler",
    "video": "video handler",
}
"""The handler that a modality takes in every mode."""

_NAMES: dict[Kind, str] = {
    "audio handler": "a StreamHandler or AsyncStreamHandler",
    "audio-video handler": "an AudioVideoStreamHandler or AsyncAudioVideoStreamHandler",
    "video handler": "a VideoStreamHandler",
}


def check_handler(handler: HandlerType, modality: Modality, mode: Mode) -> None:
    """Refuse a handler that cannot serve a stream of this modality and mode.

    Raises:
        ValueError: there is no such modality or mode.
        TypeError: the handler is of another kind; the text says which kinds fit.
    """
    for name, value, known in (("modality", modality, Modality), ("mode", mode, Mode)):
        if value not in get_args(known):
            choices = ", ".join(f'"{choice}"' for choice in get_args(known))
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    if isinstance(handler, type):
        raise TypeError(
            f"handler must be an instance, got the class {handler.__name__}: "
            f"write {handler.__name__}(...)"
        )
    kind = _kind(handler)
    if kind == _CLASSES[modality] or (
        kind == "function" and (modality == "video" or mode == "receive")
    ):
        if kind in ("function", "video handler"):
            _check_function(handler, mode)
        return
    fitting = _NAMES[_CLASSES[modality]]
    if mode == "receive":
        fitting += ", or a generator function"
    elif modality == "video":
        fitting += ", or a function f(frame, *args)"
    raise TypeError(
        f'handler must be {fitting} for modality="{modality}", mode="{mode}", '
        f"got {_described(handler, kind)}"
    )


def unwrapped(handler: object) -> object:
    """What is called in the end: without `VideoStreamHandler`, partials and objects around it."""
    if isinstance(handler, VideoStreamHandler):
        handler = handler.callable
    while isinstance(handler, functools.partial):
        handler = handler.func
    is_plain = inspect.isroutine(handler)
    return handler if is_plain else getattr(handler, "__call__", handler)  # noqa: B004


def _check_function(handler: object, mode: Mode) -> None:
    function: Any = unwrapped(handler)
    if mode == "receive":
        if inspect.iscoroutinefunction(function):
            raise TypeError("a function in receive mode must yield what the client gets")
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            "a function of video frames runs on a thread and cannot be async: use def, or an "
            "AsyncAudioVideoStreamHandler"
        )


def _kind(handler: object) -> Kind | None:
    if isinstance(handler, AudioVideoStreamHandler | AsyncAudioVideoStreamHandler):
        return "audio-video handler"
    if isinstance(handler, StreamHandler | AsyncStreamHandler):
        return "audio handler"
    if isinstance(handler, VideoStreamHandler):
        return "video handler"
    return "function" if callable(handler) else None


def _described(handler: object, kind: Kind | None) -> str:
    if kind != "function":
        return f"an instance of {type(handler).__name__}"
    function: Callable[..., Any] | object = handler
    return f"the function {getattr(function, '__name__', type(function).__name__)}"
