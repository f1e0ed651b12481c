"""The one clock of a worker."""

import asyncio
import time

import pytest

from workers.pacer import TICK, Pacer, pacer_of


async def test_members_are_called_when_they_are_due() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    begin = loop.time()
    called: list[tuple[str, float]] = []
    done = asyncio.Event()

    def member(name: str) -> None:
        called.append((name, loop.time() - begin))
        if len(called) == 3:
            done.set()

    pacer.at(begin + 0.06, lambda now: member("last"))
    pacer.at(begin + 0.02, lambda now: member("first"))
    pacer.at(begin + 0.04, lambda now: member("second"))
    async with asyncio.timeout(2):
        await done.wait()
    assert [name for name, _ in called] == ["first", "second", "last"]
    for (_, at), due in zip(called, (0.02, 0.04, 0.06), strict=True):
        assert at >= due - TICK / 2 - 0.001


async def test_members_of_one_tick_are_called_at_one_time() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    times: list[float] = []
    tick = (round(loop.time() / TICK) + 4) * TICK
    for share in (-0.4, 0.0, 0.4):
        pacer.at(tick + share * TICK, times.append)
    await asyncio.sleep(0.06)
    assert len(times) == 3
    assert len(set(times)) == 1


async def test_one_that_fails_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    times: list[float] = []

    def fails(now: float) -> None:
        raise RuntimeError("broken")

    due = loop.time() + 0.01
    pacer.at(due, fails)
    pacer.at(due, times.append)
    pacer.at(due + 0.01, times.append)
    await asyncio.sleep(0.06)
    assert len(times) == 2
    assert "cannot send" in caplog.text


async def test_a_member_may_ask_for_the_next_call() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    times: list[float] = []

    def member(now: float) -> None:
        times.append(now)
        if len(times) < 10:
            pacer.at(now + TICK, member)

    pacer.at(loop.time(), member)
    await asyncio.sleep(0.2)
    assert len(times) == 10
    assert times[-1] - times[0] >= 8 * TICK


async def test_nobody_waits_for_who_asks_later() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    begin = loop.time()
    called: list[float] = []
    pacer.at(begin + 0.03, lambda now: called.append(now - begin))
    # called first, and asks for a later time than that of the other
    pacer.at(begin + 0.01, lambda now: pacer.at(begin + 0.2, lambda now: None))
    await asyncio.sleep(0.1)
    assert len(called) == 1
    assert called[0] < 0.09


async def test_a_loop_has_one() -> None:
    loop = asyncio.get_running_loop()
    assert pacer_of(loop) is pacer_of(loop)


def test_the_clock_of_the_loop_may_be_another() -> None:
    """On macOS that of uvloop goes on while the machine sleeps: members would be called at once."""

    class Ahead(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + 1000

    async def call() -> float:
        pacer = Pacer(asyncio.get_running_loop())
        called = asyncio.get_running_loop().create_future()
        begin = time.monotonic()
        pacer.at(begin + 0.1, called.set_result)
        async with asyncio.timeout(5):
            now = await called
        assert now == pytest.approx(time.monotonic(), abs=1)
        return time.monotonic() - begin

    with asyncio.Runner(loop_factory=Ahead) as runner:
        assert runner.run(call()) >= 0.09
