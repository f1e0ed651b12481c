"""Woken threads that preempt the loop cost CPU; those that preempt nobody may starve."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.workers.host import Echo, until
from tests.workers.test_websocket import calling
from workers import courtesy
from workers.courtesy import Courtesy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: of Linux alone")

if sys.platform == "linux":
    PREEMPTS, WAITS = os.SCHED_OTHER, os.SCHED_BATCH


LATE = 10.0
"""Seconds: the machine that runs the tests may be as busy as it likes."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "LATE", LATE)


def woken(made: Courtesy, *waits: float) -> int:
    """The policy of the calling thread after it was woken with those waits, in seconds."""
    for wait in waits:
        made.woken(time.monotonic() - wait)
    return os.sched_getscheduler(0)


@pytest.fixture
def made() -> Courtesy:
    return Courtesy()


@pytest.fixture
def thread() -> ThreadPoolExecutor:
    """Of the test alone: its policy ends with it."""
    return ThreadPoolExecutor(1)


def test_a_woken_thread_lets_others_finish(made: Courtesy, thread: ThreadPoolExecutor) -> None:
    assert thread.submit(woken, made, 0.0).result() == WAITS
    assert os.sched_getscheduler(0) == PREEMPTS


def test_one_that_was_late_once_goes_on(made: Courtesy, thread: ThreadPoolExecutor) -> None:
    assert thread.submit(woken, made, 0.0, 5 * LATE, 0.0).result() == WAITS


def test_one_that_is_late_on_average_preempts_for_a_while(
    made: Courtesy, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courtesy, "PAUSE", 0.2)
    assert thread.submit(woken, made, *[2 * LATE] * 20).result() == PREEMPTS
    assert thread.submit(woken, made, 0.0).result() == PREEMPTS
    time.sleep(0.2)
    assert thread.submit(woken, made, 0.0).result() == WAITS


def test_one_that_was_much_too_late_preempts_at_once(
    made: Courtesy, thread: ThreadPoolExecutor
) -> None:
    assert thread.submit(woken, made, 0.0, 20 * LATE).result() == PREEMPTS


def test_what_an_operator_chose_stays(made: Courtesy, thread: ThreadPoolExecutor) -> None:
    thread.submit(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0)).result()
    assert thread.submit(woken, made, 0.0, 20 * LATE).result() == os.SCHED_IDLE


def test_a_sandbox_without_scheduling_is_asked_once(
    made: Courtesy, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def refuse(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert thread.submit(woken, made, 0.0, 0.0).result() == PREEMPTS
    assert asked == 1


class Policies(Echo):
    """Notes the policy of the threads that call it."""

    seen: dict[str, int]

    def copy(self) -> "Policies":
        return self

    def __init__(self) -> None:
        super().__init__()
        self.seen = {}

    def receive(self, frame: object) -> None:
        self.seen["receive"] = os.sched_getscheduler(0)
        super().receive(frame)

    def emit(self) -> object:
        self.seen["emit"] = os.sched_getscheduler(0)
        return super().emit()


async def test_it_is_the_thread_that_receives() -> None:
    """The loop wakes that one for each frame."""
    handler = Policies()
    async with calling(handler) as (client, _):
        client.play()
        await until(lambda: handler.seen.get("receive") == WAITS)
    assert handler.seen["emit"] == PREEMPTS
    assert os.sched_getscheduler(0) == PREEMPTS
