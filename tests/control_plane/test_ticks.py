"""One moment for all: a worker is woken once for what came in between."""

import asyncio

from control_plane.ticks import TICK, Ticks, ticks_of


async def test_all_that_wait_are_called_together_and_once() -> None:
    loop = asyncio.get_running_loop()
    ticks = ticks_of(loop)
    assert ticks_of(loop) is ticks
    called: list[int] = []

    def fails() -> None:
        raise ValueError("must not keep the others from their turn")

    ticks.join(lambda: called.append(1))
    ticks.join(fails)
    ticks.join(lambda: called.append(2))
    while len(called) < 2:
        await asyncio.sleep(TICK / 5)
    await asyncio.sleep(3 * TICK)
    assert called == [1, 2]


async def test_who_joins_during_a_tick_is_called_at_the_next() -> None:
    ticks = Ticks(asyncio.get_running_loop())
    done = asyncio.Event()
    ticks.join(lambda: ticks.join(done.set))
    await asyncio.wait_for(done.wait(), 1)
