"""Woken threads that preempt the loop cost CPU; those that preempt nobody may starve."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.workers.host import Echo, until
from tests.workers.test_websocket import calling
from workers import courtesy
from workers.courtesy import Courtesy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: of Linux alone")

LATE = 10.0
"""Seconds: the machine that runs the tests may be as busy as it likes."""
if sys.platform == "linux":
    PREEMPTS, WAITS = os.SCHED_OTHER, os.SCHED_BATCH


class Thread:
    """One thread and its courtesy."""

    def __init__(self) -> None:
        self.courtesy = Courtesy()
        self.pool = ThreadPoolExecutor(1)

    def sleeps(self) -> int:
        """The policy with which it would sleep."""
        self.pool.submit(self.courtesy.sleeps).result()
        return self.policy()

    def wakes(self, wait: float = 0.0) -> int:
        """The policy that it has after a sleep, woken that many seconds ago."""
        self.sleeps()
        self.pool.submit(self.courtesy.woken, time.monotonic() - wait).result()
        return self.policy()

    def policy(self) -> int:
        return self.pool.submit(os.sched_getscheduler, 0).result()


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    monkeypatch.setattr(courtesy, "LATE", LATE)
    made = Thread()
    yield made
    made.pool.shutdown()


def test_a_woken_thread_waits_for_others_but_runs_as_usual(thread: Thread) -> None:
    for _ in range(2):
        assert thread.sleeps() == WAITS
        assert thread.wakes() == PREEMPTS
    assert os.sched_getscheduler(0) == PREEMPTS


def test_one_that_was_late_once_goes_on(thread: Thread) -> None:
    thread.wakes(5 * LATE)
    assert thread.sleeps() == WAITS


def test_one_that_is_late_on_average_preempts_for_a_while(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        thread.wakes(2 * LATE)
    assert thread.sleeps() == PREEMPTS
    later = time.monotonic() + courtesy.PAUSE
    monkeypatch.setattr(courtesy, "time", SimpleNamespace(monotonic=lambda: later))
    assert thread.sleeps() == WAITS


def test_one_that_was_much_too_late_preempts_at_once(thread: Thread) -> None:
    thread.wakes(20 * LATE)
    assert thread.sleeps() == PREEMPTS
    assert thread.wakes() == PREEMPTS


def test_what_an_operator_chose_stays(thread: Thread) -> None:
    thread.pool.submit(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0)).result()
    assert thread.sleeps() == os.SCHED_IDLE
    assert thread.wakes() == os.SCHED_IDLE


@pytest.mark.parametrize("refused", ["sched_getscheduler", "sched_setscheduler"])
def test_a_sandbox_without_scheduling_is_asked_once(
    thread: Thread, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    asked = []

    def refuse(*arguments: object) -> None:
        asked.append(arguments)
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, refused, refuse)
        for _ in range(2):
            thread.pool.submit(thread.courtesy.sleeps).result()
            thread.pool.submit(thread.courtesy.woken, time.monotonic()).result()
    assert len(asked) == 1
    assert thread.policy() == PREEMPTS


class Policies(Echo):
    """Notes which thread calls `receive`, and its policy then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, int]] = set()

    def copy(self) -> "Policies":
        return self

    def receive(self, frame: object) -> None:
        self.seen.add((threading.get_native_id(), os.sched_getscheduler(0)))
        super().receive(frame)


async def test_it_is_the_thread_that_receives() -> None:
    """The loop wakes that one for each frame."""
    handler = Policies()
    async with calling(handler) as (client, _):
        client.play()
        await until(lambda: handler.seen)
        ((tid, policy),) = handler.seen
        await until(lambda: os.sched_getscheduler(tid) == WAITS)
        assert {policy for _, policy in handler.seen} == {PREEMPTS}
    assert policy == PREEMPTS
