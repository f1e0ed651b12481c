"""A worker that has to go lets its calls end, up to the deadline, and then ends them."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from rayrtc.cluster.models import Drain, EndReason, LiveConnection
from workers.draining import Draining


class Held:
    """The worker's connections as draining sees them."""

    def __init__(self) -> None:
        self.accepting = True
        self.ids = ["a", "b", "c"]
        self.reasons: list[EndReason] = []

    def live(self) -> list[LiveConnection]:
        return [LiveConnection(connection_id=id, session=1, stream="echo") for id in self.ids]

    async def close(self, connection_id: str, reason: EndReason) -> None:
        await asyncio.sleep(0.01)
        self.ids.remove(connection_id)
        self.reasons.append(reason)


@pytest.fixture
async def held() -> Held:
    return Held()


@pytest.fixture
async def draining(held: Held) -> AsyncIterator[Draining]:
    draining = Draining(held)
    running = asyncio.create_task(draining.run())
    yield draining
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


async def until_empty(held: Held) -> None:
    async with asyncio.timeout(5):
        while held.ids:
            await asyncio.sleep(0.01)


async def test_running_calls_go_on(held: Held, draining: Draining) -> None:
    draining.ask(Drain(seconds=math.inf))
    await asyncio.sleep(0.2)
    assert not held.accepting
    assert held.ids == ["a", "b", "c"]


async def test_what_is_left_at_the_deadline_is_closed(held: Held, draining: Draining) -> None:
    draining.ask(Drain(seconds=60))
    draining.ask(Drain(seconds=0.3))
    draining.ask(Drain(seconds=60))  # the lease tells it again and again
    await asyncio.sleep(0.15)
    assert len(held.ids) == 3
    await until_empty(held)
    assert held.reasons == [EndReason.DRAINED] * 3


async def test_clients_that_are_to_connect_again_are_closed_at_once(
    held: Held, draining: Draining
) -> None:
    draining.ask(Drain(seconds=60))
    await asyncio.sleep(0.1)
    assert len(held.ids) == 3
    draining.ask(Drain(seconds=60, reconnect=True))
    await until_empty(held)


async def test_a_call_that_was_on_its_way_is_closed_too(held: Held, draining: Draining) -> None:
    draining.ask(Drain(seconds=0))
    await until_empty(held)
    held.ids.append("late")
    await until_empty(held)
