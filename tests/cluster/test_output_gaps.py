"""What a reader is told when outputs are missing before the next one, and when none are."""

import asyncio
import gc
from contextlib import aclosing

import pytest

from rayrtc.cluster.models import EndReason, OutputEntry
from rayrtc.cluster.output_reader import PAGE
from rayrtc.cluster.outputs import Gap, append_end
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from tests.cluster.conftest import eventually, live, make_lease, make_settings
from tests.cluster.output_process import (
    Item,
    collect,
    connect,
    last_id,
    numbered,
    process,
    values,
)
from tests.redis_server import RedisServer


async def test_a_trimmed_cursor_is_a_gap(redis_url: str, settled: Registry) -> None:
    """Defect 6: outputs that nobody reads are bounded; what is gone is told."""
    settings = make_settings(redis_url, output_history=10)
    one = await connect(settled)
    async with process(settings) as worker:
        for number in range(1, 31):
            worker.writer.append("c1", one.session, f"[{number}]")
        assert await worker.writer.flush(5)

        items = await collect(worker.hub, cursor=f"{one.session}-5", count=11)
        assert items[0] == Gap(f"{one.session}-5", f"{one.session}-21")
        assert values(items[1:]) == numbered(21, 30)

        at_edge = await collect(worker.hub, cursor=f"{one.session}-20", count=10)
        assert values(at_edge) == numbered(21, 30)
        fresh = await collect(worker.hub, count=10)
        assert values(fresh) == numbered(21, 30), "what was trimmed before is no gap"


async def test_a_slow_reader_is_told_what_it_missed_and_holds_one_page(
    redis_url: str, settled: Registry
) -> None:
    settings = make_settings(redis_url, output_history=100, output_queue=100_000)
    one = await connect(settled)
    async with process(settings) as worker:
        async with aclosing(worker.hub.read("c1", heartbeat=5)) as reader:
            worker.writer.append("c1", one.session, "[1]")
            items: list[Item] = [await anext(reader)]
            for number in range(2, 5001):
                worker.writer.append("c1", one.session, f"[{number}]")
            assert await worker.writer.flush(10)
            gc.collect()
            held = [item for item in gc.get_objects() if isinstance(item, OutputEntry)]
            assert len(held) <= PAGE + 1
            while values(items[-1:]) != ["[5000]"]:
                items.append(await anext(reader))
        assert values(items) == ["[1]", "gap", *numbered(4901, 5000)]


async def test_a_session_that_follows_an_end_is_no_gap(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        worker.writer.append("c1", one.session, "[1]")
        worker.writer.end("c1", one.session, EndReason.ICE_FAILED)
        await settled.release("c1", one.session, EndReason.ICE_FAILED)
        first = await collect(worker.hub)
        two = await connect(settled)
        worker.writer.append("c1", two.session, "[2]")
        worker.writer.end("c1", two.session, EndReason.CLIENT_CLOSED)
        await settled.release("c1", two.session, EndReason.CLIENT_CLOSED)

        for cursor in (last_id(first[:1]), last_id(first)):
            items = await collect(worker.hub, cursor=cursor)
            assert "gap" not in values(items)
            assert [item for item in items if isinstance(item, OutputEntry)][-2].args == "[2]"
        assert [last_id([item]) for item in await collect(worker.hub)] == [
            f"{two.session}-1",
            f"{two.session}-2",
        ]


async def test_a_reader_stays_for_the_session_that_replaces_its_own(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        reading = asyncio.create_task(collect(worker.hub))
        await eventually(lambda: worker.hub.readers == 1)
        assert await worker.writer.append("c1", one.session, "[1]")
        await settled.release("c1", one.session, EndReason.ICE_FAILED)
        two = await connect(settled)
        worker.writer.end("c1", one.session, EndReason.REPLACED)
        worker.writer.append("c1", two.session, "[2]")
        worker.writer.end("c1", two.session, EndReason.CLIENT_CLOSED)
        items = await reading
    assert values(items[:-1]) == ["[1]", "[2]"], "an end between would send it away"
    assert isinstance(items[-1], OutputEntry)
    assert items[-1].reason is EndReason.CLIENT_CLOSED


async def test_a_session_that_took_the_place_of_a_lost_one_is_no_gap(
    settings: Settings, settled: Registry
) -> None:
    """The worker that died wrote no end; the replica that admits the next session does, once."""
    one = await connect(settled)
    async with process(settings) as worker:
        reading = asyncio.create_task(collect(worker.hub))
        assert await worker.writer.append("c1", one.session, "[1]")
        two = await settled.reserve("echo", 99, "c1", resumed=one.session)
        for _ in range(2):
            await append_end(worker.pools.commands, settings, "c1", one.session, EndReason.REPLACED)
        assert await worker.writer.append("c1", one.session, "[late]")
        assert await worker.writer.append("c1", two.session, "[2]")
        await append_end(worker.pools.commands, settings, "c1", one.session, EndReason.REPLACED)
        worker.writer.end("c1", two.session, EndReason.CLIENT_CLOSED)
        await settled.release("c1", two.session, EndReason.CLIENT_CLOSED)
        assert values((await reading)[:-1]) == ["[1]", "[2]"]
        cursor = f"{one.session}-1"
        assert values((await collect(worker.hub, cursor=cursor))[:-1]) == ["[2]"]


async def test_a_session_without_an_end_is_a_gap(settings: Settings, settled: Registry) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        worker.writer.append("c1", one.session, "[1]")
        worker.writer.append("c1", one.session + 5, "[1]")
        worker.writer.append("c1", one.session + 5, "[2]")
        items = await collect(worker.hub, count=4)
    assert values(items) == ["[1]", "gap", "[1]", "[2]"]


async def test_a_reservation_that_was_moved_is_no_gap(
    settings: Settings, settled: Registry
) -> None:
    """A client may open its reader while its offer is still being assigned."""
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 9, "c1")
    async with process(settings) as worker:
        reading = asyncio.create_task(collect(worker.hub, count=1))
        await eventually(lambda: worker.hub.readers == 1)
        await asyncio.sleep(0.1)
        await settled.renew(make_lease("w2"), [])
        two = await settled.move(one, ["w1"])
        worker.writer.append("c1", two.session, "[1]")
        assert values(await reading) == ["[1]"]


@pytest.mark.parametrize("cursor", ["", "x", "0", "-1-1", "1-1-1", "9" * 40 + "-1", "1-\u0661"])
async def test_a_cursor_that_is_no_id_is_a_gap_and_starts_over(
    settings: Settings, settled: Registry, cursor: str
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        worker.writer.append("c1", one.session, "[1]")
        items = await collect(worker.hub, cursor=cursor, count=2)
        assert items[0] == Gap(None, f"{one.session}-0")
        assert values(items[1:]) == ["[1]"]


async def test_a_cursor_of_a_session_that_redis_does_not_know_is_a_gap(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        worker.writer.append("c1", one.session, "[1]")
        items = await collect(worker.hub, cursor=f"{one.session + 9}-4", count=2)
        assert values(items) == ["gap", "[1]"]


async def test_what_a_killed_redis_lost_is_a_gap(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url, lease_ttl=5)
    async with process(settings) as worker:
        await worker.registry.renew(make_lease(), [])
        await asyncio.sleep(0.12)
        one = await worker.registry.reserve("echo", 9, "c1")
        await worker.registry.renew(make_lease(), live(one))
        for number in range(1, 101):
            worker.writer.append("c1", one.session, f"[{number}]")
        assert await worker.writer.flush(5)
        had = await collect(worker.hub, count=60)
        own_redis.kill()
        own_redis.start()
        await worker.registry.renew(make_lease(), live(one))
        worker.writer.append("c1", one.session, "[101]")
        items = await collect(worker.hub, cursor=last_id(had), count=2)
    assert values(items) == ["gap", "[101]"]
