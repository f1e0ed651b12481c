"""Deadlines and cancellation of what goes to Redis: without them services do not stop."""

import asyncio

import pytest
from redis.exceptions import RedisError

from rayrtc.cluster.redis import (
    BLOCKING_CONNECTIONS,
    RECONNECT_CAP,
    Backoff,
    RedisPools,
    load_script,
)
from rayrtc.settings import Settings
from tests.cluster.conftest import make_settings
from tests.redis_server import RedisServer


async def forever(pools: RedisPools) -> None:
    while True:
        await pools.commands.get("key")


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_cancelled_task_ends_wherever_its_command_is(pools: RedisPools, steps: int) -> None:
    for _ in range(20):
        task = asyncio.create_task(forever(pools))
        await asyncio.sleep(0.001)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1)
        assert done
        assert task.cancelled()


async def test_all_commands_share_one_connection(pools: RedisPools) -> None:
    await asyncio.gather(*(pools.commands.set(f"k{number}", "x") for number in range(500)))
    assert len(await pools.commands.client_list()) == 1


async def test_blocking_reads_do_not_hold_up_commands(pools: RedisPools) -> None:
    reads = [
        asyncio.create_task(pools.blocking.xread({"none": "$"}, block=2000))
        for _ in range(BLOCKING_CONNECTIONS)
    ]
    await asyncio.sleep(0.05)
    await pools.commands.set("key", "x")
    assert not any(read.done() for read in reads)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)


async def test_a_dead_redis_is_an_error_and_a_new_one_is_used(own_redis: RedisServer) -> None:
    pools = RedisPools(make_settings(own_redis.url))
    await pools.commands.set("key", "x")
    own_redis.kill()
    async with asyncio.timeout(10):
        with pytest.raises(RedisError):
            await pools.commands.get("key")
    own_redis.start()
    assert await pools.commands.get("key") is None
    await pools.aclose()


async def test_scripts_are_sent_again_after_a_restart(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url)
    pools = RedisPools(settings)
    script = load_script(pools.commands, "set_input")
    first = await script(keys=["k"], args=["[]", 1000])
    own_redis.kill()
    own_redis.start()
    assert await script(keys=["k"], args=["[]", 1000]) > first
    await pools.aclose()


def test_pauses_grow_to_a_bound_and_differ(settings: Settings) -> None:
    backoff = Backoff()
    assert backoff.first
    pauses = [backoff.next() for _ in range(50)]
    assert not backoff.first
    assert pauses[0] <= 0.05
    assert all(RECONNECT_CAP / 2 <= pause <= RECONNECT_CAP for pause in pauses[10:])
    assert len(set(pauses[10:])) > 10
    backoff.reset()
    assert backoff.next() <= 0.05
