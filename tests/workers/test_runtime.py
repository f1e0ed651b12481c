"""Defects of FastRTC's handler runtime that show only beside other calls, or after a long time."""

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from rayrtc import handlers
from rayrtc.cluster.models import EndReason
from rayrtc.errors import ConnectionClosed
from tests.clients import AiortcClient
from tests.workers.host import Echo, calling, handler_threads, hosting, until
from tests.workers.test_websocket import WorkerClient, serving
from tests.workers.test_websocket import calling as calling_by_socket
from workers.connection import State

HOURS = 7200.0


async def test_handlers_that_block_leave_the_shared_threads_alone() -> None:
    """Defect 2: handlers shared the default thread pool with the encoders, and eight calls that
    block were enough to silence all others."""
    release = threading.Event()
    blocked = 0

    class Blocking(Echo):
        def receive(self, frame: Any) -> None:
            nonlocal blocked
            blocked += 1
            release.wait(60)

        def emit(self) -> Any:
            release.wait(60)

    async with serving(Blocking()) as (host, port), contextlib.AsyncExitStack() as clients:
        for _ in range(8):
            client = await clients.enter_async_context(WorkerClient(host, port))
            await client.start()
            client.play()
        await until(lambda: blocked == 8)
        async with asyncio.timeout(10):
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(32)))
        release.set()
    await until(lambda: handler_threads() == 0)


async def test_a_sync_shutdown_that_blocks_holds_up_nobody() -> None:
    """Defect 2: a sync `shutdown` ran on the event loop."""
    release = threading.Event()
    on: list[str] = []

    class Slow(Echo):
        def shutdown(self) -> None:
            on.append(threading.current_thread().name)
            release.wait(60)

    async with serving(Slow()) as (host, port), WorkerClient(host, port) as other:
        await other.start()
        async with WorkerClient(host, port) as client:
            await client.start()
            await client.send(event="stop")
            await until(lambda: on)
            await other.send(event="ping")
            await other.wait_for_event("pong")
            assert on == ["handler-shutdown"]
            release.set()


async def test_a_long_emit_is_neither_given_up_nor_called_again() -> None:
    """Defect 3: after 60 s `emit` was called a second time, while the first was still running.

    The loop's clock jumps by hours, so that whatever waits with a deadline has waited too long.
    """
    release = threading.Event()
    running, most, calls = 0, 0, 0

    class Long(Echo):
        def emit(self) -> Any:
            nonlocal running, most, calls
            running, calls = running + 1, calls + 1
            most = max(most, running)
            release.wait(60)
            running -= 1

    loop = asyncio.get_running_loop()
    async with calling_by_socket(Long()) as (client, host):
        client.play()
        await until(lambda: calls)
        threads = handler_threads()
        real = loop.time
        loop.time = lambda: real() + HOURS  # type: ignore[method-assign]
        try:
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert (most, calls) == (1, 1)
            assert handler_threads() == threads
            assert next(iter(host.connections._open)).state is State.CONNECTED
            release.set()
            await until(lambda: calls > 2)
            assert most == 1
        finally:
            release.set()
            loop.time = real  # type: ignore[method-assign]


async def test_waiting_for_inputs_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 3: `wait_for_args_sync` never timed out, so its thread leaked."""
    monkeypatch.setattr(handlers, "ARGS_TIMEOUT", 0.3)
    raised: list[BaseException] = []

    class Asking(Echo):
        def start_up(self) -> None:
            try:
                self.wait_for_args_sync()
            except BaseException as error:
                raised.append(error)

    async with calling_by_socket(Asking()):
        await until(lambda: raised)
    assert isinstance(raised[0], TimeoutError)
    await until(lambda: handler_threads() == 0)


async def test_waiting_for_inputs_ends_with_the_connection() -> None:
    """Defect 3: a client that leaves meanwhile leaves no thread, and that is no error."""
    raised: list[BaseException] = []
    waiting = threading.Event()

    class Asking(Echo):
        def start_up(self) -> None:
            waiting.set()
            try:
                self.wait_for_args_sync()
            except BaseException as error:
                raised.append(error)
                raise

    async with calling_by_socket(Asking()) as (client, host):
        await until(waiting.is_set)
        await client.send(event="stop")
        await until(lambda: not len(host.connections))
        assert [type(error) for error in raised] == [ConnectionClosed]
        assert host.reasons == [EndReason.CLIENT_CLOSED]
    await until(lambda: handler_threads() == 0)


async def test_the_deadline_of_an_earlier_session_does_not_end_a_later_one() -> None:
    """Defect 4: a 30 s timer was keyed by the id, and ended the next session of that id."""
    async with hosting(Echo(), connect_timeout=1.5) as host:
        absent = AiortcClient("", webrtc_id="one-id")
        body = await absent.create_offer()
        await host.connections.offer(host.request("one-id", body["sdp"]))
        earlier = host.connections._connections["one-id"]
        await absent.close()
        async with calling(host, webrtc_id="one-id") as (_, later):
            assert later.session > earlier.session
            await until(lambda: earlier.state is State.CLOSED)
            await asyncio.sleep(2)  # the earlier one's deadline has passed by now
            assert later.state is State.CONNECTED
