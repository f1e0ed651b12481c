"""A Redis that was away and comes back with its data must not cost the calls that went on."""

import asyncio

import pytest

from rayrtc.cluster import reaper
from rayrtc.cluster.models import ConnectionState, EndReason
from rayrtc.cluster.reaper import Reaper
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from tests.cluster.conftest import SETTLE, live, make_lease, make_settings
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "GAP", 0.3)


async def test_leases_that_ran_out_while_redis_was_frozen(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    await registry.renew(make_lease(), [])
    await asyncio.sleep(SETTLE + 0.05)
    await registry.renew(make_lease(), [])
    one = await registry.reserve("echo", 9, "c1")
    reaping = Reaper(registry, settings)
    for _ in range(30):  # Redis is there for long enough
        await registry.renew(make_lease(), live(one))
        assert await reaping.reap() == []
        await asyncio.sleep(0.05)
    own_redis.pause()
    await asyncio.sleep(3 * settings.lease_ttl)
    own_redis.resume()
    assert await reaping.reap() == [], "the worker has had no time to come back"
    renewal = await registry.renew(make_lease(), live(one))
    assert renewal.conflicts == {}
    record = await registry.find("c1")
    assert record is not None
    assert record.state is ConnectionState.LIVE
    await pools.aclose()


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
