"""Handlers with plain functions: each copy runs on threads of its own.

Many handlers wait in `emit` for what `receive` gives them, so at the end such a one is handed a
last frame of silence; what is blocked even after `shutdown` is interrupted and left behind.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

from rayrtc.handlers import StreamHandler, StreamHandlerBase
from rayrtc.video import AudioVideoStreamHandler
from workers.emitted import Emitted, split, split_video
from workers.handler_thread import HandlerThread, Interrupted
from workers.handler_times import now
from workers.runtime import (
    ABANDON_TIME,
    IDLE_TIME,
    NUDGE_TIME,
    STOP_TIMEOUT,
    STORE_TIME,
    Runtime,
)


class Source(Protocol):
    """Where a thread gets what it hands to the handler."""

    def get(self) -> Any:
        """The next frame; None at the end."""

    def silence(self) -> Any:
        """A frame of nothing."""


class Threads(Runtime):
    """What runs on threads has in common: their start, their calls and their end."""

    def __init__(self, handler: StreamHandlerBase, **common: Any) -> None:
        super().__init__(**common)
        self._running: dict[str, HandlerThread] = {}
        self._wake = threading.Event()

    async def _stop(self) -> None:
        self._done = True
        self._wake.set()
        self._media.stop()
        await self._wait(3 * NUDGE_TIME)
        await self._shut_down()
        await self._wait(ABANDON_TIME)
        for name, thread in self._running.items():
            if not thread.ended.done():
                self._log.warning("%s did not return and is left behind", name)
                thread.abandon()

    async def _wait(self, timeout: float) -> None:
        if running := [thread.ended for thread in self._running.values()]:
            await asyncio.wait(running, timeout=timeout)

    async def _shut_down(self) -> None:
        """Tell the handler of the end, if it wants to know."""

    def _spawn(self, name: str, function: Callable[[], None]) -> HandlerThread:
        def run() -> None:
            self._enter(name)
            function()

        inside = partial(copy_context().run, run)  # what it logs has the fields of the connection
        thread = self._running[name] = HandlerThread(name, inside, self._loop)
        thread.start()
        return thread

    def _call(self, call: str, function: Callable[..., Any], *args: Any) -> Any:
        began = time.thread_time()
        try:
            result = function(*args)
        except Interrupted:
            raise
        except BaseException as error:  # a SystemExit of a handler ends no thread of ours either
            self._failed(call, error)
            self._wake.wait(IDLE_TIME)
            return None
        finally:
            self._times[self._method(call)].busy += time.thread_time() - began
        self._succeeded(call)
        return result

    def _method(self, call: str) -> str:
        """Under which name the times of a call are told."""
        return call

    def _timed(self, method: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call what frames wait for."""
        began = now()
        try:
            return function(*args)
        finally:
            self._times[method].took(now() - began)

    def _play(self, emitted: Emitted, wait: bool = False) -> bool:
        """Pass on what the handler emitted; whether it was nothing.

        Args:
            wait: until there is room for the next frame, even if the output replaces frames.
        """
        if self._done:
            return True
        if emitted.outputs is not None:
            self._put_outputs(emitted.outputs)
        if emitted.frame is not None and (output := self._media.video_output) is not None:
            frame = output.to_frame(emitted.frame)
            if wait:
                output.write_blocking(frame, wait)
            else:
                output.show(frame)
        if emitted.audio is not None and self._media.output is not None:
            self._media.output.write_blocking(*emitted.audio)
        if emitted.close is not None:
            self._end(emitted.close)
        if emitted.outputs is not None:
            with self._storing:
                self._storing.wait_for(self._room, STORE_TIME)
        return emitted.empty

    def _repeat(self, call: str, function: Callable[[], bool]) -> None:
        """Call `function` until the end; one that had nothing, no more often than necessary."""
        while not self._done:
            started = time.monotonic()
            idle = self._call(call, function)
            if idle and (left := started + IDLE_TIME - time.monotonic()) > 0:
                self._wake.wait(left)


class ThreadRuntime(Threads):
    """Runs a `StreamHandler`: a thread each for `receive`, `emit` and, if it has one, `start_up`,
    and for `video_receive` and `video_emit`."""

    def __init__(self, handler: StreamHandler, **common: Any) -> None:
        super().__init__(handler, **common)
        self._handler = handler

    def start(self) -> None:
        handler = self._handler
        self._pair(self._media.input, "receive", handler.receive, "emit", self._emit)
        if isinstance(handler, AudioVideoStreamHandler):
            self._pair(
                self._media.video_input,
                "video_receive",
                handler.video_receive,
                "video_emit",
                lambda: self._play(split_video(handler.video_emit())),
            )
        if type(handler).start_up is not StreamHandler.start_up:
            self._spawn("start_up", lambda: self._call("start_up", handler.start_up))

    async def _shut_down(self) -> None:
        shutdown = self._spawn("shutdown", lambda: self._call("shutdown", self._handler.shutdown))
        await asyncio.wait((shutdown.ended,), timeout=STOP_TIMEOUT)

    def _emit(self) -> bool:
        return self._play(split(self._handler.emit()))

    def _pair(
        self,
        source: Source | None,
        receive: str,
        take: Callable[[Any], None],
        emit: str,
        give: Callable[[], bool],
    ) -> None:
        """Run the two functions of one kind of media; the names are those of the calls."""
        emit_ended = threading.Event()

        def receiving() -> None:
            assert source is not None
            while not self._done and (frame := source.get()) is not None:
                self._call(receive, self._timed, receive, take, frame)
            if not emit_ended.wait(NUDGE_TIME):
                self._call(receive, take, source.silence())

        def giving() -> None:
            try:
                self._repeat(emit, give)
            finally:
                emit_ended.set()

        if source is not None:
            self._spawn(receive, receiving)
        self._spawn(emit, giving)
