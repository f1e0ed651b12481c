"""A handler's copy for one connection, and the runtime that fits it."""

import asyncio
from typing import Any

from rayrtc.handlers import AsyncStreamHandler, StreamHandler
from rayrtc.stream import Stream
from workers.functions import FrameRuntime, FunctionHandler, GeneratorRuntime
from workers.handler_thread import HandlerThread, Interrupted
from workers.runtime import Runtime
from workers.tasks import AsyncGeneratorRuntime, LoopRuntime
from workers.threads import ThreadRuntime

COPY_TIMEOUT = 5.0
"""Seconds that `copy` may take."""

BoundHandler = StreamHandler | AsyncStreamHandler | FunctionHandler


def create_runtime(handler: BoundHandler, **common: Any) -> Runtime:
    """The runtime that fits the handler; takes the arguments of `Runtime`."""
    if isinstance(handler, AsyncStreamHandler):
        return LoopRuntime(handler, **common)
    if isinstance(handler, StreamHandler):
        return ThreadRuntime(handler, **common)
    if handler.takes_frames:
        return FrameRuntime(handler, **common)
    if handler.is_async:
        return AsyncGeneratorRuntime(handler, **common)
    return GeneratorRuntime(handler, **common)


async def copy_handler(stream: Stream) -> BoundHandler:
    """The stream's handler for one connection.

    It is `handler.copy()`, on a thread of its own unless the handler is made for the loop; a
    function is wrapped.

    Raises:
        Exception: whatever `copy` raises, or RuntimeError because of it.
        TypeError: it returned no handler.
        TimeoutError: it took longer than `COPY_TIMEOUT`.
    """
    handler = stream.handler
    if isinstance(handler, AsyncStreamHandler):
        return _checked(handler.copy())
    if not isinstance(handler, StreamHandler):
        return FunctionHandler(handler, takes_frames=stream.mode != "receive")
    made: list[StreamHandler] = []
    failed: list[BaseException] = []

    def copy() -> None:
        try:
            made.append(handler.copy())
        except Interrupted:
            raise
        except BaseException as error:
            failed.append(error)

    thread = HandlerThread("copy", copy, asyncio.get_running_loop())
    thread.start()
    await asyncio.wait((thread.ended,), timeout=COPY_TIMEOUT)
    if not thread.ended.done():
        thread.abandon()
        raise TimeoutError(f"copy() of the handler took longer than {COPY_TIMEOUT:g} s")
    if failed:
        # wrapped: a SystemExit of the handler is not the connection's
        raise RuntimeError(f"copy of the handler failed: {failed[0]!r}") from failed[0]
    return _checked(made[0])


def _checked(copy: object) -> StreamHandler | AsyncStreamHandler:
    if not isinstance(copy, StreamHandler | AsyncStreamHandler):
        raise TypeError(f"copy() must return a handler, it returned {type(copy).__name__}")
    return copy
