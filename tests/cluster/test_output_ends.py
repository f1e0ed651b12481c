"""Every reader comes to an end, whoever should have written it."""

import asyncio

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import EndReason, OutputEntry
from rayrtc.cluster.outputs import append_lost
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from tests.cluster.output_process import (
    collect,
    connect,
    last_id,
    process,
    values,
)


async def test_nothing_follows_for_a_client_that_has_seen_the_end(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        worker.writer.end("c1", one.session, EndReason.CLIENT_CLOSED)
        await settled.release("c1", one.session, EndReason.CLIENT_CLOSED)
        items = await collect(worker.hub)
        assert await collect(worker.hub, cursor=last_id(items)) == []


async def test_lost_connections_get_their_end_once(settings: Settings, settled: Registry) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        reading = asyncio.create_task(collect(worker.hub))
        await worker.writer.append("c1", one.session, "[1]")
        lost = await settled.withdraw("w1", EndReason.WORKER_LOST)
        for _ in range(2):
            await append_lost(worker.pools.commands, settings, lost)
        items = await reading
        assert values(items[:1]) == ["[1]"]
        end = items[-1]
        assert isinstance(end, OutputEntry)
        assert (len(items), end.id, end.reason) == (2, f"{one.session}-2", EndReason.WORKER_LOST)

        assert await worker.writer.append("c1", one.session, "[late]")
        rows = await worker.pools.commands.xlen(Keys(settings.cluster).outputs("c1"))
        assert rows == 2, "nothing follows an end"


async def test_a_closed_record_without_an_end_ends_the_reader(
    settings: Settings, settled: Registry
) -> None:
    """Whoever should have written the end died before it did."""
    one = await connect(settled)
    async with process(settings) as worker:
        await worker.writer.append("c1", one.session, "[1]")
        reading = asyncio.create_task(collect(worker.hub, heartbeat=0.1))
        await asyncio.sleep(0.1)
        await settled.release("c1", one.session, EndReason.HANDLER_ERROR)
        items = await asyncio.wait_for(reading, 4)
        end = items[-1]
        assert isinstance(end, OutputEntry)
        assert (end.kind, end.reason) == ("end", EndReason.HANDLER_ERROR)


async def test_a_record_that_vanishes_ends_the_reader(
    settings: Settings, settled: Registry
) -> None:
    await connect(settled)
    async with process(settings) as worker:
        reading = asyncio.create_task(collect(worker.hub, heartbeat=0.1))
        await asyncio.sleep(0.1)
        await worker.pools.commands.flushall()
        (end,) = await asyncio.wait_for(reading, 4)
        assert isinstance(end, OutputEntry)
        assert end.reason is EndReason.EXPIRED
