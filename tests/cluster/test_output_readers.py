"""Every reader gets each output once and in order, at any replica."""

import asyncio
from contextlib import aclosing

import pytest

from rayrtc.cluster.models import EndReason, OutputEntry
from rayrtc.cluster.outputs import Heartbeat, OutputWriter
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConnectionClosed, OutputTimeout, UnknownConnection
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


async def test_two_readers_each_get_everything_and_the_end(
    settings: Settings, settled: Registry
) -> None:
    """Defect 6: two readers of a connection stole from each other."""
    one = await connect(settled)
    async with process(settings) as worker, process(settings) as a, process(settings) as b:
        readers = [asyncio.create_task(collect(hub)) for hub in (a.hub, b.hub, b.hub)]
        await eventually(lambda: a.hub.readers == 1 and b.hub.readers == 2)
        for number in range(1, 1001):
            worker.writer.append("c1", one.session, f"[{number}]")
            if number % 100 == 0:
                await asyncio.sleep(0.005)
        worker.writer.end("c1", one.session, EndReason.TIME_LIMIT)
        for items in await asyncio.gather(*readers):
            assert values(items[:-1]) == numbered(1, 1000)
            end = items[-1]
            assert isinstance(end, OutputEntry)
            assert (end.kind, end.reason) == ("end", EndReason.TIME_LIMIT)
            assert end.id == f"{one.session}-1001"
        assert a.hub.readers == b.hub.readers == 0
        assert worker.writer.pending == 0


async def test_a_reader_resumes_at_another_replica(settings: Settings, settled: Registry) -> None:
    """1,000 numbered outputs, read at five replicas in turn: none lost, none twice."""
    one = await connect(settled)

    async def produce(writer: OutputWriter) -> None:
        for number in range(1, 1001):
            writer.append("c1", one.session, f"[{number}]")
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        writer.end("c1", one.session, EndReason.CLIENT_CLOSED)

    async with process(settings) as worker:
        producing = asyncio.create_task(produce(worker.writer))
        got: list[Item] = []
        cursor = None
        while not (got and isinstance(got[-1], OutputEntry) and got[-1].kind == "end"):
            async with process(settings) as replica:
                got += await collect(replica.hub, cursor=cursor, count=230)
                cursor = last_id(got)
        await producing
    assert values(got[:-1]) == numbered(1, 1000)


async def test_a_reader_that_comes_late_starts_with_the_session(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        for number in range(1, 201):
            worker.writer.append("c1", one.session, f"[{number}]")
        assert await worker.writer.flush(5)
        assert values(await collect(worker.hub, count=200)) == numbered(1, 200)


async def test_outputs_arrive_at_once(settings: Settings, settled: Registry) -> None:
    """They are announced; the heartbeat's look is not what finds them."""
    one = await connect(settled)
    async with (
        asyncio.timeout(30),
        process(settings) as worker,
        aclosing(worker.hub.read("c1", heartbeat=60)) as reader,
    ):
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0.2)
        for _ in range(20):
            assert await worker.writer.append("c1", one.session, "[1]")
            await waiting
            waiting = asyncio.ensure_future(anext(reader))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_heartbeats_while_nothing_happens(settings: Settings, settled: Registry) -> None:
    one = await connect(settled)
    async with (
        process(settings) as worker,
        aclosing(worker.hub.read("c1", heartbeat=0.1)) as reader,
    ):
        assert await anext(reader) == Heartbeat()
        await settled.renew(make_lease(), live(one))
        assert await anext(reader) == Heartbeat()


async def test_an_unknown_id_is_refused_and_leaves_nothing(
    settings: Settings, settled: Registry
) -> None:
    """Defect 6: reading an unknown id created state."""
    async with process(settings) as worker:
        with pytest.raises(UnknownConnection):
            await collect(worker.hub, "nobody")
        with pytest.raises(UnknownConnection):
            await worker.hub.latest("nobody", timeout=1)
        assert worker.hub.readers == 0
        assert await worker.pools.commands.keys("*nobody*") == []


async def test_latest_waits_for_an_output_and_gives_the_newest(
    settings: Settings, settled: Registry
) -> None:
    one = await connect(settled)
    async with process(settings) as worker:
        with pytest.raises(OutputTimeout):
            await worker.hub.latest("c1", timeout=0.1)
        waiting = asyncio.create_task(worker.hub.latest("c1", timeout=5))
        await asyncio.sleep(0.1)
        await worker.writer.append("c1", one.session, "[1]")
        assert (await waiting).args == "[1]"
        await worker.writer.append("c1", one.session, "[2]")
        newest = await worker.hub.latest("c1", timeout=1)
        assert newest.args == "[2]"
        with pytest.raises(OutputTimeout):
            await worker.hub.latest("c1", newest.id, timeout=0.1)
        waiting = asyncio.create_task(worker.hub.latest("c1", newest.id, timeout=5))
        await worker.writer.end("c1", one.session, EndReason.CLIENT_CLOSED)
        with pytest.raises(ConnectionClosed):
            await waiting
        assert (await worker.hub.latest("c1", timeout=1)).args == "[2]"


async def test_a_thousand_readers_share_one_connection(redis_url: str, settled: Registry) -> None:
    # nothing expires while a busy machine gets the readers going
    settings = make_settings(redis_url, lease_ttl=60, record_ttl=60)
    async with process(settings) as worker, process(settings) as replica:
        connections = [await connect(worker.registry, f"c{number}") for number in range(90)]
        readers: list[asyncio.Task[list[Item]]] = []
        while len(readers) < 1000:  # a hundred at a time: commands wait 2 s for a connection
            begun = len(readers) + 100
            for number in range(len(readers), begun):
                reader = collect(replica.hub, f"c{number % 90}", count=5, timeout=90)
                readers.append(asyncio.create_task(reader))
            await eventually(lambda n=begun: replica.hub.readers == n, timeout=30)
        channels = replica.pools.commands.pubsub_channels

        async def subscriptions(count: int) -> bool:
            return len(await channels()) == count

        await eventually(lambda: subscriptions(90))
        clients = await replica.pools.commands.client_list(_type="pubsub")
        assert len(clients) == 1
        for number in range(5):
            for one in connections:
                worker.writer.append(one.connection_id, one.session, f"[{number}]")
            await asyncio.sleep(0.01)
        results = await asyncio.gather(*readers)
        assert all(values(items) == numbered(0, 4) for items in results)
        await eventually(lambda: subscriptions(0))
