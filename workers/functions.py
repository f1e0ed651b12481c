"""Handlers that are functions: of each video frame, or generators of what the client gets."""

import inspect
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from av.video.frame import VideoFrame

from rayrtc.combinations import unwrapped
from rayrtc.handlers import StreamHandlerBase
from rayrtc.messages import CloseStream, create_message
from rayrtc.video import HandlerType, VideoStreamHandler
from workers.emitted import Emitted, split, split_audio_video, split_video
from workers.handler_thread import Interrupted
from workers.media import Media
from workers.threads import Threads

_END = object()


class FunctionHandler(StreamHandlerBase):
    """A function with the arguments of its connection.

    Args:
        handler: the function, alone or in a `VideoStreamHandler`.
        takes_frames: it is called with each frame; else it is a generator function.
    """

    def __init__(self, handler: HandlerType, takes_frames: bool) -> None:
        wrapped = handler if isinstance(handler, VideoStreamHandler) else None
        super().__init__(fps=wrapped.fps if wrapped is not None else 30)
        function = wrapped.callable if wrapped is not None else handler
        assert callable(function)
        self.function: Callable[..., Any] = function
        self.takes_frames = takes_frames
        self.skip_frames = wrapped is not None and wrapped.skip_frames
        self.given = threading.Event()
        """Inputs were set, or the connection ends; for threads, as `args_set` is for the loop."""

    def copy(self) -> "FunctionHandler":
        return FunctionHandler(
            VideoStreamHandler(self.function, self.fps, self.skip_frames), self.takes_frames
        )

    def set_args(self, args: list[Any]) -> None:
        super().set_args(args)
        self.given.set()

    @property
    def arguments(self) -> list[Any]:
        """What the client set, without the placeholder."""
        return self.latest_args[1:]

    @property
    def is_async(self) -> bool:
        """Whether it is an async generator function."""
        return inspect.isasyncgenfunction(unwrapped(self.function))

    @property
    def lacks_arguments(self) -> bool:
        """A function of frames: whether it cannot be called before the client sets inputs."""
        return not self.latest_args and self._needs_arguments

    @cached_property
    def _needs_arguments(self) -> bool:
        try:
            inspect.signature(self.function).bind(None)
        except TypeError:
            return True
        except ValueError:  # a function written in C may hide its parameters
            return False
        return False

    @property
    def takes_arguments(self) -> bool:
        """A generator function: whether it is to be called with the client's inputs."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except ValueError:
            return False
        return any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)


def take_apart(media: Media) -> Callable[[Any], Emitted]:
    """What understands the yields of a generator for these media."""
    if media.video_output is None:
        return split
    return split_video if media.output is None else split_audio_video


class FrameRuntime(Threads):
    """Calls a function with each frame, on one thread.

    Before the client has set the inputs that the function needs, frames pass unchanged.
    """

    def __init__(self, handler: FunctionHandler, **common: Any) -> None:
        super().__init__(handler, **common)
        self._handler = handler

    def start(self) -> None:
        self._spawn("video", self._run)

    def _run(self) -> None:
        assert self._media.video_input is not None
        while not self._done and (frame := self._media.video_input.get_frame()) is not None:
            self._call("video", self._handle, frame)

    def _handle(self, frame: VideoFrame) -> None:
        source, output = self._media.video_input, self._media.video_output
        assert source is not None
        assert output is not None
        if self._handler.lacks_arguments:
            output.show(frame)
            return
        pixels = source.to_array(frame)
        result = self._timed("video", self._handler.function, pixels, *self._handler.arguments)
        if inspect.isgenerator(result):
            try:
                while (item := self._timed("video", next, result, _END)) is not _END:
                    self._play(split_video(item), wait=True)
                    if self._done:
                        break
            finally:
                result.close()
            return
        emitted = split_video(result)
        if emitted.frame is pixels and source.shows(frame, pixels):
            output.show(frame)  # needs no conversion
            emitted = emitted._replace(frame=None)
        self._play(emitted)


class GeneratorRuntime(Threads):
    """Plays what a generator yields, on one thread; its end is that of the connection."""

    def __init__(self, handler: FunctionHandler, **common: Any) -> None:
        super().__init__(handler, **common)
        self._handler = handler
        self._take_apart = take_apart(self._media)
        self._generator: Iterator[Any] | None = None

    def start(self) -> None:
        self._spawn("generator", self._run)

    async def _stop(self) -> None:
        self._done = True
        self._handler.given.set()
        await super()._stop()

    def _method(self, call: str) -> str:
        return "generator"

    def _run(self) -> None:
        arguments: list[Any] = []
        if self._handler.takes_arguments:
            if not self._handler.given.is_set():
                self._channel.send(create_message("send_input", []))
            self._handler.given.wait()
            arguments = self._handler.arguments
        if self._done:
            return
        self._generator = self._call("generator", self._make, arguments)
        if self._generator is None:
            return
        try:
            self._repeat("emit", self._next)
        finally:
            if (close := getattr(self._generator, "close", None)) is not None:
                self._call("close", close)

    def _make(self, arguments: list[Any]) -> Iterator[Any]:
        made = self._handler.function(*arguments)
        if not isinstance(made, Iterator):
            raise TypeError(
                "a handler in receive mode must be a generator function, this one returned "
                f"{type(made).__name__}"
            )
        return made

    def _next(self) -> bool:
        assert self._generator is not None
        try:
            item = self._timed("generator", next, self._generator)
        except StopIteration:
            item = CloseStream()
        except Interrupted:
            raise
        except BaseException as error:
            self._failed("generator", error)
            return True
        return self._play(self._take_apart(item))
