"""Which handler a task of the event loop runs for, so that a loop that stands still has a name."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from rayrtc.handlers import StreamHandlerBase


class Call(NamedTuple):
    """What runs for whom; the names are those of its fields in the log and its metrics' labels."""

    connection_id: str
    stream: str
    handler: str
    """Its class, or the function."""
    method: str


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""Of the code that runs here. What a handler starts has the same: tasks and threads' coroutines."""

_calls: WeakKeyDictionary["asyncio.Task[Any]", Call] = WeakKeyDictionary()


@contextmanager
def entered(call: Call) -> Iterator[None]:
    """The current task runs for `call` inside of the block."""
    task = asyncio.current_task()
    assert task is not None
    token = current_call.set(call)
    _calls[task] = call
    try:
        yield
    finally:
        _calls.pop(task, None)
        current_call.reset(token)


def follow(loop: asyncio.AbstractEventLoop) -> None:
    """Note for each new task of `loop` who started it. Called on the loop, once."""

    def create(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **options)
        if (call := current_call.get()) is not None:
            _calls[task] = call
        return task

    loop.set_task_factory(create)  # type: ignore[arg-type]


def running(loop: asyncio.AbstractEventLoop) -> Call | None:
    """What `loop` runs at this moment, if that is a handler. May be called from any thread."""
    task = asyncio.current_task(loop)
    return None if task is None else _calls.get(task)


def name_of(handler: object) -> str:
    """A handler as its author knows it."""
    function = getattr(handler, "callable", None) or getattr(handler, "function", None)
    named = handler if function is None else function
    if isinstance(named, StreamHandlerBase):
        return type(named).__qualname__
    return getattr(named, "__qualname__", None) or type(named).__qualname__
