"""A Redis that was away and comes back with its data must not cost the calls that went on."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from rayrtc.cluster import reaper
from rayrtc.cluster.models import ConnectionState, EndReason, LiveConnection
from rayrtc.cluster.reaper import Reaper
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from tests.cluster.conftest import SETTLE, live, make_lease, make_settings
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "GAP", 0.3)


@pytest.fixture
async def fragile(own_redis: RedisServer) -> AsyncIterator[Registry]:
    pools = RedisPools(make_settings(own_redis.url))
    yield Registry(pools.commands, make_settings(own_redis.url))
    await pools.aclose()


async def with_a_call(registry: Registry, reaping: Reaper) -> list[LiveConnection]:
    """The call of a worker, when Redis has been there for long enough."""
    await registry.renew(make_lease(), [])
    await asyncio.sleep(SETTLE + 0.05)
    await registry.renew(make_lease(), [])
    held = live(await registry.reserve("echo", 9, "c1"))
    for _ in range(30):
        await registry.renew(make_lease(), held)
        assert await reaping.reap() == []
        await asyncio.sleep(0.05)
    return held


async def goes_on(registry: Registry, reaping: Reaper, held: list[LiveConnection]) -> None:
    """The worker has a moment to come back, and is as before."""
    for _ in range(3):
        assert await reaping.reap() == [], "the worker has had no time to come back"
        await asyncio.sleep(0.1)
    assert (await registry.renew(make_lease(), held)).conflicts == {}
    record = await registry.find("c1")
    assert record is not None
    assert record.state is ConnectionState.LIVE


async def test_leases_that_ran_out_while_redis_was_frozen(
    own_redis: RedisServer, fragile: Registry
) -> None:
    reaping = Reaper(fragile, make_settings(own_redis.url))
    held = await with_a_call(fragile, reaping)
    own_redis.pause()
    await asyncio.sleep(3 * make_settings(own_redis.url).lease_ttl)
    own_redis.resume()
    await goes_on(fragile, reaping, held)


async def test_a_redis_that_is_back_at_once_with_old_data(
    own_redis: RedisServer, fragile: Registry
) -> None:
    """From a snapshot, or a replica that was behind: nobody need have noticed that it was away."""
    settings = make_settings(own_redis.url)
    reaping = Reaper(fragile, settings)
    held = await with_a_call(fragile, reaping)
    async with Redis.from_url(own_redis.url) as redis:
        await redis.save()
    begin = time.monotonic()
    while time.monotonic() < begin + 1.5 * settings.lease_ttl:
        await fragile.renew(make_lease(), held)
        assert await reaping.reap() == []
        await asyncio.sleep(0.05)
    own_redis.kill()
    own_redis.start()
    assert await fragile.expired() == ["w1"], "it has the old lease"
    await goes_on(fragile, reaping, held)


async def test_a_worker_that_does_not_come_back_is_lost(registry: Registry, redis_url: str) -> None:
    settings = make_settings(redis_url)
    await registry.renew(make_lease(), [])
    await asyncio.sleep(SETTLE + 0.05)
    await registry.renew(make_lease(), [])
    one = await registry.reserve("echo", 9, "c1")
    await registry.renew(make_lease(), live(one))
    reaping = Reaper(registry, settings)
    lost = []
    async with asyncio.timeout(5):
        while not lost:
            await asyncio.sleep(0.05)
            lost = await reaping.reap()
    assert [(record.connection_id, record.reason) for record in lost] == [
        ("c1", EndReason.WORKER_LOST)
    ]
