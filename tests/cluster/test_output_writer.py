"""The worker's side: each output is written once and in order, and what waits is bounded."""

import asyncio

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import EndReason
from rayrtc.cluster.outputs import OutputWriter
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from tests.cluster.conftest import live, make_lease, make_settings
from tests.cluster.output_process import (
    collect,
    connect,
    last_id,
    numbered,
    process,
    values,
)
from tests.redis_server import RedisServer


async def test_a_repeated_write_is_no_second_output(settings: Settings, settled: Registry) -> None:
    """Redis may have taken a write whose answer was lost; the writer sends it again."""
    one = await connect(settled)
    async with process(settings) as worker, process(settings) as again:
        for number in range(1, 6):
            await worker.writer.append("c1", one.session, f"[{number}]")
        for number in range(1, 8):
            again.writer.append("c1", one.session, f"[{number}]")
        assert await again.writer.flush(1)
        assert values(await collect(worker.hub, count=7)) == numbered(1, 7)


async def test_an_older_session_is_written_to_its_end_before_the_next(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        for number in range(1, 201):
            worker.writer.append("c1", one.session, f"[{number}]")
        worker.writer.end("c1", one.session, EndReason.REPLACED)
        worker.writer.append("c1", one.session + 1, "[next]")
        assert await worker.writer.flush(5)
        items = await collect(worker.hub, cursor=f"{one.session}-0", count=201)
        assert values(items[:200]) == numbered(1, 200)
        rows = await worker.pools.commands.xlen(Keys(settings.cluster).outputs("c1"))
        assert rows == 202


async def test_a_full_queue_drops_its_oldest_and_never_the_end(redis_url: str) -> None:
    """Defect 6: outputs piled up without bound at the worker."""
    settings = make_settings(redis_url, output_queue=5)
    pools = RedisPools(settings)
    writer = OutputWriter(pools.commands, settings)
    results = [writer.append("c1", 1, f"[{number}]") for number in range(1, 9)]
    results.append(writer.end("c1", 1, EndReason.CLIENT_CLOSED))
    results.append(writer.append("c1", 1, "[late]"))
    assert (writer.pending, writer.dropped) == (5, 4)
    task = asyncio.create_task(writer.run())
    assert await writer.flush(5)
    assert [await result for result in results] == [False] * 4 + [True] * 5 + [False]
    rows = await pools.commands.xrange(Keys(settings.cluster).outputs("c1"))
    assert [row[0] for row in rows] == [f"1-{number}" for number in range(5, 10)]
    assert rows[-1][1] == {"kind": "end", "data": "client_closed"}
    assert writer.written == 5
    task.cancel()
    await pools.aclose()


async def test_large_outputs_are_written_in_several_batches(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        big = '["' + "x" * 1_000_000 + '"]'
        results = [worker.writer.append("c1", one.session, big) for _ in range(20)]
        assert await worker.writer.flush(10)
        written = [await result for result in results]
        assert written == [False] * 4 + [True] * 16, "16 MiB are queued at most"


async def test_writer_and_readers_go_on_after_redis_was_killed(own_redis: RedisServer) -> None:
    """Nothing that was written after the restart is missing; what Redis lost is nothing that the
    readers had not got."""
    settings = make_settings(own_redis.url, lease_ttl=5)
    async with process(settings) as worker, process(settings) as replica:
        await worker.registry.renew(make_lease(), [])
        await asyncio.sleep(0.12)
        one = await worker.registry.reserve("echo", 9, "c1")
        await worker.registry.renew(make_lease(), live(one))
        readers = [
            asyncio.create_task(collect(hub, heartbeat=0.1)) for hub in (worker.hub, replica.hub)
        ]
        for number in range(1, 101):
            worker.writer.append("c1", one.session, f"[{number}]")
        assert await worker.writer.flush(5)
        await asyncio.sleep(0.2)

        own_redis.kill()
        for number in range(101, 201):
            worker.writer.append("c1", one.session, f"[{number}]")
        assert not await worker.writer.flush(1)
        own_redis.start()
        await asyncio.sleep(0.5)
        await worker.registry.renew(make_lease(), live(one))
        assert await worker.writer.flush(5)
        for number in range(201, 301):
            worker.writer.append("c1", one.session, f"[{number}]")
        worker.writer.end("c1", one.session, EndReason.CLIENT_CLOSED)
        for items in await asyncio.gather(*readers):
            assert values(items[:-1]) == numbered(1, 300)
            assert last_id(items) == f"{one.session}-301"


async def test_an_end_that_cannot_be_written_is_given_up(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url, record_ttl=0.5)
    async with process(settings) as worker:
        own_redis.kill()
        result = worker.writer.end("c1", 1, EndReason.CLIENT_CLOSED)
        assert not await asyncio.wait_for(result, 5)
        assert await worker.writer.flush(1)
        assert (worker.writer.pending, worker.writer.dropped) == (0, 1)
