"""A wrong sum would slow down good handlers; a lost exception would break them."""

import asyncio
import time
from typing import Any

import pytest

from workers.steps import Steps


def work(seconds: float) -> None:
    time.sleep(seconds)


async def test_steps_count_and_waits_do_not() -> None:
    async def call() -> str:
        work(0.05)
        await asyncio.sleep(0.3)
        work(0.05)
        return "done"

    steps = Steps(call())
    assert await steps == "done"
    assert steps.held >= 0.1
    waited = Steps(asyncio.sleep(0.3, "slept"))
    began = time.monotonic()
    assert await waited == "slept"
    assert waited.held < (time.monotonic() - began) / 2


async def test_exceptions_pass_both_ways() -> None:
    seen: list[Any] = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            raise ValueError("mine") from None

    async def outer() -> None:
        await Steps(call())

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ValueError, match="mine"):
        await task
    assert seen == ["cancelled"]


async def test_a_future_that_fails() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("x"))

    async def call() -> str:
        try:
            await future
        except KeyError:
            return "handled"
        return ""

    assert await Steps(call()) == "handled"


class PlainIterator:
    """Awaits a future as an extension written in C may: it has `__next__` alone."""

    def __init__(self, future: "asyncio.Future[None]") -> None:
        self._future = future

    def __await__(self) -> "PlainIterator":
        return self

    def __next__(self) -> "asyncio.Future[None]":
        self._future._asyncio_future_blocking = True
        return self._future


async def test_what_cannot_be_told_of_a_cancellation_is_cancelled_all_the_same() -> None:
    async def wait() -> None:
        awaitable: Any = PlainIterator(asyncio.get_running_loop().create_future())
        await Steps(awaitable)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
