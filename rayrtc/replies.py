"""What a reply function gave back, one item at a time, until it ends or is cancelled.

A sync generator runs on the thread that asks for its items; an async one in a task of its own on
the worker's loop, so that it can be cancelled wherever it waits.
"""

import asyncio
import inspect
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds that a cancelled async reply may take for its `finally`."""


class ReplyEnded(Exception):
    """There are no more items."""


class Reply(ABC):
    """Items to emit. `next` and `close` are called on one thread at a time."""

    @abstractmethod
    def next(self) -> Any:
        """The next item, waiting for it.

        Raises:
            ReplyEnded: there is none, or the reply was cancelled.
            Exception: what the reply function raised.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End it as soon as it can be. Does not wait; may be called from any thread."""

    @abstractmethod
    def close(self) -> None:
        """End it and wait for its `finally`; `CLOSE_TIMEOUT` at most if it is async."""


class SyncReply(Reply):
    """A generator, closed where it yields, as Python cannot stop it elsewhere."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._cancelled = False

    def next(self) -> Any:
        if not self._cancelled:
            try:
                item = next(self._items)
            except StopIteration:
                raise ReplyEnded from None
            if not self._cancelled:
                return item
        self.close()
        raise ReplyEnded

    def cancel(self) -> None:
        self._cancelled = True

    def close(self) -> None:
        self._cancelled = True
        if (close := getattr(self._items, "close", None)) is not None:
            close()


class AsyncReply(Reply):
    """An async iterator in a task, which makes an item only when it is asked for."""

    def __init__(self, items: AsyncIterator[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._items = items
        self._loop = loop
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._changed = threading.Condition()  # guards what follows
        self._made: list[Any] = []
        self._error: BaseException | None = None
        self._cancelled = False
        self._ended = False
        # the task gets the context of this thread, and with it the connection
        self._on_loop(self._start)

    def next(self) -> Any:
        self._on_loop(self._wanted.set)
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._ended or self._cancelled)
            if self._made and not self._cancelled:
                return self._made.pop()
        self.close()
        if self._error is not None:
            raise self._error
        raise ReplyEnded

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self._on_loop(self._cancel)

    def close(self) -> None:
        if not self._ended:
            self.cancel()
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, CLOSE_TIMEOUT):
                logger.warning("%r does not end although it was cancelled", self._items)

    def _on_loop(self, function: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop has ended
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._iterate())
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    async def _iterate(self) -> None:
        try:
            await self._wanted.wait()
            async for item in self._items:
                self._wanted.clear()
                with self._changed:
                    if self._cancelled:
                        return
                    self._made.append(item)
                    self._changed.notify_all()
                await self._wanted.wait()
        finally:
            if inspect.isasyncgen(self._items):
                await self._items.aclose()


def create_reply(result: Any, loop: asyncio.AbstractEventLoop) -> Reply:
    """The reply for what a reply function returned.

    Args:
        result: a sync or async iterator of items; an awaitable of one item; or one item.
    """
    if isinstance(result, AsyncIterator):
        return AsyncReply(result, loop)
    if isinstance(result, Awaitable):
        return AsyncReply(_only(result), loop)
    if isinstance(result, Iterator):
        return SyncReply(result)
    return SyncReply(iter((result,)))


async def _only(item: Awaitable[Any]) -> AsyncIterator[Any]:
    yield await item
