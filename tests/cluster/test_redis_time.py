"""Delays between hosts are told by Redis' clock, whatever the hosts' own clocks say."""

import asyncio
import time

import pytest

from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.redis_time import RedisTime
from tests.cluster.conftest import eventually, make_settings
from tests.redis_server import RedisServer


async def test_it_is_the_time_of_redis(pools: RedisPools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a host whose clock is wrong
    clocks = [RedisTime(pools.commands) for _ in range(2)]
    assert [clock.now() for clock in clocks] == [None, None]
    assert clocks[0].since(5) is None
    running = [asyncio.create_task(clock.run()) for clock in clocks]
    await eventually(lambda: None not in [clock.now() for clock in clocks])
    seconds, microseconds = await pools.commands.time()
    then = clocks[0].now()
    assert then is not None
    assert abs(then - seconds * 1000 - microseconds / 1000) < 1000
    await asyncio.sleep(0.2)
    passed = clocks[1].since(then)
    assert passed is not None
    assert 0.15 < passed < 2
    assert clocks[1].since(None) is None
    assert clocks[1].since(then + 60_000) == 0
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_it_waits_for_redis_and_outlives_it(own_redis: RedisServer) -> None:
    own_redis.kill()
    pools = RedisPools(make_settings(own_redis.url))
    clock = RedisTime(pools.commands)
    running = asyncio.create_task(clock.run())
    await asyncio.sleep(0.5)
    assert clock.now() is None
    own_redis.start()
    await eventually(lambda: clock.now() is not None, timeout=15)
    own_redis.kill()
    assert clock.now() is not None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await pools.aclose()
