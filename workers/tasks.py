"""Handlers with coroutines: they run on the worker's event loop, in tasks of their connection."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av

from rayrtc.handlers import AsyncStreamHandler
from rayrtc.messages import CloseStream, create_message
from rayrtc.video import AsyncAudioVideoStreamHandler, VideoArray
from workers import calls
from workers.emitted import Emitted, split, split_video
from workers.functions import FunctionHandler, take_apart
from workers.handler_thread import leave
from workers.handler_times import now
from workers.runtime import IDLE_TIME, STOP_TIMEOUT, STORE_TIME, Runtime
from workers.steps import Steps

HOLD_TIME = 0.1
"""Seconds that one call may hold the loop; one that held it for longer is followed by a pause as
long, so that other calls get half of the time, and the worker can end this one."""


TIMED = ("receive", "video_receive")
"""Calls that frames wait for."""


class Tasks(Runtime):
    """What runs on the loop has in common: its tasks, its calls and its end.

    Frames are converted on one thread of the connection, which starts with the first of them.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self._tasks: list[asyncio.Task[None]] = []
        self._waited = False
        """Whether the call that was made last has let others run meanwhile."""
        self._converter = ThreadPoolExecutor(1, "handler-convert")

    async def _stop(self) -> None:
        self._done = True
        self._media.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await self._finish(self._tasks)
        await self._shut_down()
        self._converter.shutdown(wait=False)

    async def _shut_down(self) -> None:
        """Tell the handler of the end, if it wants to know."""

    def _spawn(self, method: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._entered(method, work))
        self._tasks.append(task)
        return task

    async def _finish(self, tasks: Iterable[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait for `tasks`; those that did not end in time."""
        _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        for task in late:
            self._log.warning("%s did not end in time", task.get_coro())
            leave(task)
        return late

    async def _entered(self, method: str, work: Coroutine[Any, Any, None]) -> None:
        with calls.entered(self._enter(method)):
            await work

    async def _call(self, call: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        steps: Steps[Any] | None = None
        began = now()
        try:
            steps = Steps(function(*args))
            result = await steps
        except Exception as error:
            self._failed(call, error)
            if not self._done:
                await asyncio.sleep(IDLE_TIME)
            return None
        finally:
            if steps is not None:
                method = self._times[self._method(call)]
                method.busy += steps.held
                if call in TIMED:
                    method.took(now() - began)
            if steps is not None and steps.held > HOLD_TIME and not self._done:
                await asyncio.sleep(steps.held)
            self._waited = steps is not None and steps.waited
        self._succeeded(call)
        return result

    def _method(self, call: str) -> str:
        """Under which name the times of a call are told."""
        return call

    async def _play(self, emitted: Emitted) -> bool:
        """Pass on what the handler emitted; whether it was nothing."""
        if self._done:
            return True
        if emitted.outputs is not None:
            self._put_outputs(emitted.outputs)
        if emitted.frame is not None and (output := self._media.video_output) is not None:
            frame = await self._loop.run_in_executor(
                self._converter, output.to_frame, emitted.frame
            )
            await output.write(frame)
        if emitted.audio is not None and self._media.output is not None:
            await self._media.output.write(*emitted.audio)
        if emitted.close is not None:
            self._end(emitted.close)
        if emitted.outputs is not None and not self._room():
            await asyncio.sleep(STORE_TIME)
        return emitted.empty

    async def _repeat(self, call: str, function: Callable[[], Awaitable[bool]]) -> None:
        """Call `function` until the end; one that had nothing, no more often than necessary."""
        while not self._done:
            started = self._loop.time()
            idle = await self._call(call, function)
            left = started + IDLE_TIME - self._loop.time() if idle else 0.0
            if left > 0 or not self._waited:
                await asyncio.sleep(max(left, 0.0))


class LoopRuntime(Tasks):
    """Runs an `AsyncStreamHandler`: a task each for `receive`, `emit` and `start_up`, and for
    `video_receive` and `video_emit`."""

    def __init__(self, handler: AsyncStreamHandler, **common: Any) -> None:
        super().__init__(**common)
        self._handler = handler

    def start(self) -> None:
        handler = self._handler
        self._spawn("receive", self._receive())
        self._spawn("emit", self._repeat("emit", self._emit))
        if isinstance(handler, AsyncAudioVideoStreamHandler):
            self._spawn("video_receive", self._video_receive(handler))
            self._spawn("video_emit", self._repeat("video_emit", lambda: self._video_emit(handler)))
        self._spawn("start_up", self._call("start_up", handler.start_up))

    async def _shut_down(self) -> None:
        shutdown = self._loop.create_task(
            self._entered("shutdown", self._call("shutdown", self._at_end))
        )
        if late := await self._finish([shutdown]):
            for task in late:
                task.cancel()
            await self._finish(late)

    async def _at_end(self) -> None:
        # handlers written for FastRTC may have a plain `def shutdown`
        ending: Any = self._handler.shutdown()
        if inspect.isawaitable(ending):
            await ending

    async def _receive(self) -> None:
        assert self._media.input is not None
        while not self._done and (frame := await self._media.input.next()) is not None:
            await self._call("receive", self._handler.receive, frame)

    async def _emit(self) -> bool:
        return await self._play(split(await self._handler.emit()))

    async def _video_receive(self, handler: AsyncAudioVideoStreamHandler) -> None:
        input = self._media.video_input
        assert input is not None
        while not self._done and (frame := await input.next_frame()) is not None:
            try:
                pixels: VideoArray = await self._loop.run_in_executor(
                    self._converter, input.to_array, frame
                )
            except (av.FFmpegError, ValueError) as error:
                self._log.info("a frame cannot be converted: %s", error)
                continue
            await self._call("video_receive", handler.video_receive, pixels)

    async def _video_emit(self, handler: AsyncAudioVideoStreamHandler) -> bool:
        return await self._play(split_video(await handler.video_emit()))


class AsyncGeneratorRuntime(Tasks):
    """Plays what an async generator yields; its end is that of the connection."""

    def __init__(self, handler: FunctionHandler, **common: Any) -> None:
        super().__init__(**common)
        self._handler = handler
        self._take_apart = take_apart(self._media)

    def start(self) -> None:
        self._spawn("generator", self._run())

    async def _run(self) -> None:
        handler = self._handler
        arguments: list[Any] = []
        if handler.takes_arguments:
            if not handler.args_set.is_set():
                self._channel.send(create_message("send_input", []))
            await handler.args_set.wait()
            arguments = handler.arguments
        try:
            generator = handler.function(*arguments)
        except Exception as error:
            self._failed("generator", error)
            return
        try:
            await self._repeat("emit", lambda: self._next(generator))
        finally:
            await self._call("close", generator.aclose)

    def _method(self, call: str) -> str:
        return "generator"

    async def _next(self, generator: AsyncIterator[Any]) -> bool:
        began = now()
        try:
            item = await anext(generator)
        except StopAsyncIteration:
            item = CloseStream()
        except Exception as error:
            self._failed("generator", error)
            return True
        finally:
            self._times["generator"].took(now() - began)
        return await self._play(self._take_apart(item))
