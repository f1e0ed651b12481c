"""A thread of a handler that does not return stays in the worker: it must be ended, or counted."""

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.workers.host import AsyncEcho, Echo, handler_threads, until
from tests.workers.test_websocket import WorkerClient, calling, serving
from workers import copies, tasks
from workers.handler_thread import left_behind, threads_abandoned


async def test_a_handler_that_loops_for_ever_is_ended_with_its_connection() -> None:
    """Its loop would take the worker's CPU until the worker is replaced."""
    turns = 0

    class Looping(Echo):
        def emit(self) -> Any:
            nonlocal turns
            while True:
                turns += 1
                try:
                    time.sleep(0.01)
                except Exception:  # no handler's business
                    pass

    before = threads_abandoned._value.get()
    async with calling(Looping()) as (_, host):
        await until(lambda: turns > 3)
    await until(lambda: handler_threads() == 0)
    assert threads_abandoned._value.get() == before + 1
    assert left_behind() == 0
    assert not len(host.connections)


async def test_one_that_waits_for_ever_is_counted_until_it_returns() -> None:
    entered, release = threading.Event(), threading.Event()

    class Waiting(Echo):
        def emit(self) -> Any:
            entered.set()
            release.wait()

    async with calling(Waiting()) as (_, host):
        await until(entered.is_set)
    assert not len(host.connections)
    assert left_behind() == 1
    release.set()
    await until(lambda: left_behind() == 0)
    await until(lambda: handler_threads() == 0)


async def test_a_coroutine_that_does_not_let_itself_be_cancelled_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "STOP_TIMEOUT", 0.3)
    release = asyncio.Event()

    class Stubborn(AsyncEcho):
        async def emit(self) -> Any:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pass

    async with calling(Stubborn()) as (client, host):
        await client.send(event="stop")
        await until(lambda: not len(host.connections))
        count = left_behind()
        release.set()  # before anything can fail: it could not be cancelled then either
    assert count == 1
    await until(lambda: left_behind() == 0)


async def test_a_copy_that_takes_for_ever_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "COPY_TIMEOUT", 0.3)

    class Slow(Echo):
        def copy(self) -> Any:
            while True:
                time.sleep(0.01)

    async with serving(Slow()) as (host, port), WorkerClient(host, port) as client:
        answer = await client.request()
        assert answer.refusal is not None
        assert answer.refusal.code == "refused"
    await until(lambda: handler_threads() == 0)
    assert left_behind() == 0
