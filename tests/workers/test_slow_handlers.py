"""Handlers that block, never return or have nothing to say: what they cost others."""

import asyncio
import threading
import time
from typing import Any

from rayrtc.cluster.models import EndReason
from tests.workers.host import (
    AsyncEcho,
    Echo,
    calling,
    handler_threads,
    hosting,
    until,
)


async def test_a_handler_that_blocks_holds_up_nobody_else() -> None:
    """Defect 2: handlers shared a pool with the encoders; here each has its own threads."""
    release = threading.Event()
    blocked: list[Any] = []

    class Sleepy(Echo):
        def emit(self) -> Any:
            blocked.append(self)
            assert release.wait(100), "the test is never asked to go on"

    async with hosting(Sleepy()) as host:
        async with calling(host), calling(host):
            await until(lambda: len(blocked) == 2)
        release.set()
        await until(lambda: not len(host.connections))


async def test_a_thread_that_never_returns_does_not_hold_the_slot() -> None:
    """Defect 3: its thread is left behind, and nothing waits for it."""
    release = threading.Event()

    class Stuck(Echo):
        def emit(self) -> Any:
            release.wait(30)

    async with hosting(Stuck()) as host:
        async with calling(host):
            pass
        await until(lambda: not len(host.connections))
        assert not release.is_set()
        assert host.reasons == [EndReason.CLIENT_CLOSED]
        release.set()
        await until(lambda: handler_threads() == 0)


async def test_an_idle_handler_costs_nothing() -> None:
    """Defect 1: FastRTC calls it 4,000 times a second."""
    calls = 0

    class Idle(Echo):
        def emit(self) -> None:
            nonlocal calls
            calls += 1

    async with hosting(Idle()) as host, calling(host):
        calls = 0
        await asyncio.sleep(1)
        assert 10 < calls < 60


async def test_a_handler_that_blocks_leaves_the_loop_half_of_the_time() -> None:
    """Else it blocks for each packet that waits: the worker cannot read that the client has left,
    and is taken for dead."""
    free: list[float] = []
    ended = 0.0

    class Slow(AsyncEcho):
        async def receive(self, frame: Any) -> None:
            nonlocal ended
            if ended:
                free.append(time.monotonic() - ended)
            await asyncio.sleep(0)
            time.sleep(0.2)  # noqa: ASYNC251 - the fault
            ended = time.monotonic()

    async with hosting(Slow()) as host, calling(host):
        await until(lambda: len(free) >= 3)
    assert min(free) >= 0.2
