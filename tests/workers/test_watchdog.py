"""A worker whose loop stands still keeps silent calls: the watchdog must end it and say why."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rayrtc import AsyncStreamHandler, ReplyOnPause
from tests.workers.host import AsyncEcho, until
from tests.workers.test_websocket import calling
from workers import calls
from workers.watchdog import EXIT_CODE, REPORT_INTERVAL, Watchdog, blocked_seconds, blocks, stacks

PROGRAM = """
import asyncio, ctypes, logging, time
from workers.watchdog import Watchdog

def handler_that_blocks():
    {block}

async def main():
    Watchdog(asyncio.get_running_loop(), 1.0, "worker w1").start()
    await asyncio.sleep(0.1)
    handler_that_blocks()

logging.basicConfig()
asyncio.run(main())
"""


def run(block: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(block=block)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_blocked_loop_ends_the_process_with_its_stacks() -> None:
    done = run("time.sleep(20)")
    assert done.returncode == EXIT_CODE
    assert "worker w1: the event loop has not answered" in done.stderr
    assert "handler_that_blocks" in done.stderr


def test_a_held_gil_ends_the_process_with_its_stacks() -> None:
    done = run("ctypes.PyDLL(None).sleep(20)")
    assert done.returncode == 1
    assert "handler_that_blocks" in done.stderr


async def test_a_loop_that_answers_is_left_alone() -> None:
    ended: list[int] = []
    watchdog = Watchdog(asyncio.get_running_loop(), 0.3, "worker w1", ended.append)
    watchdog.start()
    await asyncio.sleep(1)
    watchdog.stop()
    assert not ended


def test_a_process_that_was_stopped_as_a_whole_is_left_alone() -> None:
    program = PROGRAM.format(block="return").replace(
        "handler_that_blocks()\n\nlog", "print('up', flush=True); await asyncio.sleep(4)\n\nlog"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        assert process.wait(15) == 0


def test_stacks_name_their_threads() -> None:
    assert "thread MainThread:" in stacks()


async def watched() -> Watchdog:
    loop = asyncio.get_running_loop()
    calls.follow(loop)
    watchdog = Watchdog(loop, 10, "worker w1")
    watchdog.start()
    return watchdog


def block(seconds: float = 0.5) -> None:
    time.sleep(seconds)


class Blocker(AsyncEcho):
    """Blocks the loop once, in the method that its test names."""

    method = ""

    def blocks(self, method: str) -> None:
        if type(self).method == method:
            type(self).method = ""
            block()

    def copy(self) -> "Blocker":
        self.blocks("copy")
        return super().copy()

    async def start_up(self) -> None:
        self.blocks("start_up")
        self.task = asyncio.create_task(self.child())

    async def child(self) -> None:
        await asyncio.sleep(0.05)
        self.blocks("child")

    async def receive(self, frame: Any) -> None:
        self.blocks("receive")
        await super().receive(frame)

    async def emit(self) -> Any:
        self.blocks("emit")
        return await super().emit()

    async def shutdown(self) -> None:
        self.blocks("shutdown")


@pytest.mark.parametrize("method", ["copy", "start_up", "receive", "emit", "shutdown", "child"])
async def test_a_handler_that_blocks_the_loop_is_named(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All callers of the worker hear it, and none of their logs would say whose fault it is."""
    told = "start_up" if method == "child" else method
    labels = ("test", "Blocker", told)
    before = blocks.labels(*labels)._value.get(), blocked_seconds.labels(*labels)._value.get()
    watchdog = await watched()
    Blocker.method = method
    with caplog.at_level(logging.INFO, "workers.watchdog"):
        async with calling(Blocker()) as (client, _):
            if method == "receive":
                client.play()
            if method == "shutdown":
                await client.send(event="stop")
            await until(lambda: any(hasattr(r, "stack") and r.handler for r in caplog.records))
            await until(lambda: "blocked for" in caplog.text)
    watchdog.stop()
    record = next(r for r in caplog.records if hasattr(r, "stack") and r.handler)
    assert record.levelno == logging.WARNING
    named = {n: getattr(record, n) for n in ("connection_id", "stream", "handler", "method")}
    expected = {"connection_id": client.id, "stream": "test", "handler": "Blocker", "method": told}
    assert named == expected
    assert "in block\n" in record.stack
    assert record.blocked_seconds > 0.05
    assert blocks.labels(*labels)._value.get() == before[0] + 1
    assert blocked_seconds.labels(*labels)._value.get() > before[1] + 0.2


async def test_a_reply_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The task of an async reply is started from the thread of `emit`."""

    async def reply(audio: Any) -> AsyncIterator[Any]:
        block()
        yield None

    watchdog = await watched()
    with caplog.at_level(logging.INFO, "workers.watchdog"):
        async with calling(ReplyOnPause(reply)) as (client, _):
            handler: Any = client.connection._handler
            handler.trigger_response()
            await until(lambda: any(getattr(r, "handler", "") for r in caplog.records))
    watchdog.stop()
    record = next(r for r in caplog.records if getattr(r, "handler", ""))
    assert (record.connection_id, record.handler) == (client.id, "ReplyOnPause")
    assert "in reply\n" in record.stack


async def test_the_same_fault_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that blocks in each `receive` would fill the disk with its stacks."""

    class Sleepy(AsyncStreamHandler):
        def copy(self) -> "Sleepy":
            return Sleepy()

        async def receive(self, frame: Any) -> None:
            pass

        async def emit(self) -> None:
            block(0.25)

    watchdog = await watched()
    labels = ("test", Sleepy.__qualname__, "emit")
    with caplog.at_level(logging.INFO, "workers.watchdog"):
        async with calling(Sleepy()):
            await until(lambda: blocks.labels(*labels)._value.get() >= 4, timeout=15)
    watchdog.stop()
    assert REPORT_INTERVAL >= 10
    assert sum(getattr(r, "handler", "") == labels[1] for r in caplog.records) <= 2


async def test_the_handler_that_hangs_a_worker_is_named_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[int] = []
    loop = asyncio.get_running_loop()
    calls.follow(loop)
    watchdog = Watchdog(loop, 0.3, "worker w1", ended.append)
    watchdog.start()
    Blocker.method = "emit"
    async with calling(Blocker()):
        await until(lambda: ended)
    watchdog.stop()
    record = next(r for r in caplog.records if r.levelno == logging.CRITICAL)
    assert "because of emit of Blocker" in record.getMessage()
    assert "in block\n" in record.getMessage()
