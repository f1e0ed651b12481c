"""One `Cluster` a process: opens without Redis, reaps lost workers, leaves nothing behind."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from rayrtc.cluster.client import Cluster
from rayrtc.cluster.inputs import InputReader
from rayrtc.cluster.models import EndReason, InputEntry, OutputEntry
from rayrtc.cluster.outputs import OutputWriter
from rayrtc.free_port import free_port
from rayrtc.settings import Settings
from tests.cluster.conftest import eventually, live, make_lease, make_settings
from tests.redis_server import RedisServer


async def end_of(cluster: Cluster, connection_id: str) -> EndReason | None:
    async with aclosing(cluster.outputs.read(connection_id, heartbeat=5)) as reader:
        async for item in reader:
            if isinstance(item, OutputEntry) and item.kind == "end":
                return item.reason
    return None


async def test_readers_of_a_lost_worker_get_their_end(settings: Settings) -> None:
    async with Cluster(settings) as a, Cluster(settings) as b:
        await a.registry.renew(make_lease(), [])
        await asyncio.sleep(0.12)
        one = await a.registry.reserve("echo", 3, "c1")
        await a.registry.renew(make_lease(), live(one))
        async with asyncio.timeout(3):
            reasons = await asyncio.gather(end_of(a, "c1"), end_of(b, "c1"))
        assert reasons == [EndReason.WORKER_LOST] * 2
        assert (await a.registry.streams(["echo"]))[0].connections == 0


async def test_it_opens_without_redis_and_finds_it_later(own_redis: RedisServer) -> None:
    own_redis.kill()
    settings = make_settings(own_redis.url)
    async with Cluster(settings) as cluster:
        await asyncio.sleep(0.3)
        own_redis.start()
        await cluster.registry.renew(make_lease(), [])
        await asyncio.sleep(0.12)
        one = await cluster.registry.reserve("echo", 3, "c1")
        await cluster.registry.renew(make_lease(), live(one))
        async with asyncio.timeout(6):
            assert await end_of(cluster, "c1") is EndReason.WORKER_LOST


async def test_closing_leaves_no_task_and_no_connection(settings: Settings) -> None:
    before = asyncio.all_tasks()
    cluster = Cluster(settings)
    await cluster.open()
    await cluster.open()
    await cluster.registry.settling()
    assert asyncio.all_tasks() > before
    await asyncio.wait_for(cluster.aclose(), 2)
    assert asyncio.all_tasks() == before

    async with Cluster(settings) as other:

        async def alone() -> bool:
            clients = await other.pools.commands.client_list()
            return len(clients) <= 3

        await eventually(alone)


async def test_no_script_crosses_hash_slots(tmp_path: Path) -> None:
    """In cluster mode a server refuses a script that touches keys of two slots."""
    # The port between nodes is 10,000 above the clients' unless given: anybody may have that one
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server = RedisServer(tmp_path, *options)
    server.start()
    try:
        settings = make_settings(server.url, lease_ttl=5)
        async with Cluster(settings) as cluster:
            redis = cluster.pools.commands
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]

            async def ready() -> bool:
                return "cluster_state:ok" in await redis.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]

            await eventually(ready, timeout=10)
            with pytest.raises(ResponseError, match="slot"):
                await redis.eval(
                    "#!lua\nredis.call('SET', KEYS[1], redis.call('GET', 'b'))", 1, "a"
                )
            got: list[InputEntry] = []
            writer = OutputWriter(redis, settings)
            tasks = [
                asyncio.create_task(writer.run()),
                asyncio.create_task(
                    InputReader(cluster.pools.blocking, "w1", settings).run(got.append)
                ),
            ]
            await cluster.registry.renew(make_lease("w1"), [])
            await asyncio.sleep(0.12)
            one = await cluster.registry.reserve("echo", 3, "c1")
            await cluster.registry.renew(make_lease("w1"), live(one))
            await cluster.inputs.set_input("c1", "[1]")
            await eventually(lambda: len(got) == 1)
            assert await writer.append("c1", one.session, "[1]")
            assert (await cluster.outputs.latest("c1")).args == "[1]"
            two = await cluster.registry.reserve("echo", 3, "c2")
            await cluster.registry.renew(make_lease("w2"), [])
            await cluster.registry.move(two, ["w1"])
            await cluster.registry.release("c2", two.session, EndReason.REFUSED)
            assert len(await cluster.registry.workers()) == 2
            assert len(await cluster.registry.connections()) == 2
            assert len(await cluster.registry.streams(["echo", "other"])) == 2
            assert len(await cluster.registry.withdraw("w1", EndReason.WORKER_STOPPED)) == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        server.kill()
