"""Broken, calls would not be spread, or what fails would not be seen."""

import asyncio
from contextlib import suppress

from capacity.addresses import address_towards, all_addresses
from capacity.generators import Generators
from capacity.pace import Pace
from capacity.protocol import Target
from tests.e2e.stack import free_port


async def test_callers_send_evenly_and_stop_when_they_are_taken_out() -> None:
    counts = [0, 0, 0]

    def sender(caller: int) -> None:
        counts[caller] += 1

    sends = [lambda caller=caller: sender(caller) for caller in range(3)]
    pace = Pace(0.02, 2)
    for send in sends:
        pace.add(send)
    pacing = asyncio.create_task(pace.run())
    await asyncio.sleep(0.4)
    pace.remove(sends[0])
    gone = counts[0]
    await asyncio.sleep(0.2)
    pacing.cancel()
    with suppress(asyncio.CancelledError):
        await pacing
    assert counts[0] == gone
    assert counts[1] > gone >= 10
    assert abs(counts[1] - counts[2]) <= 1


async def test_calls_that_cannot_be_made_are_counted_and_nothing_stays() -> None:
    target = Target(url=f"http://127.0.0.1:{free_port()}", addresses=["127.0.0.1"])
    async with Generators(target, 2) as generators:
        made = await generators.set_calls(3, 100, lambda live: None)
        assert (made.live, made.failed) == (0, {"unreachable": 3})
        sample = await generators.measure(0.1)
        assert sample.calls == []
    assert [process.returncode for process in generators._processes] == [0, 0]


def test_a_call_offers_the_address_that_leads_to_the_worker() -> None:
    assert address_towards("127.0.0.1", 9) == "127.0.0.1"
    assert all_addresses()[-1] == "127.0.0.1"
