"""One Ray for all tests of the pool: starting it takes longer than most of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayrtc.settings import Settings
from tests.redis_server import RedisServer
from tests.workers.ray_pool import RayPool
from workers.ray_node import RayNode

MakePool = Callable[..., Awaitable[RayPool]]


@pytest.fixture(scope="session")
def ray_node() -> Iterator[RayNode]:
    """A Ray of this process, with room for 8 workers."""
    node = RayNode(Settings(cluster="tests", workers_max=4))
    node.start(lambda text: None)
    yield node
    node.stop()


@pytest.fixture
async def make_pool(ray_node: RayNode, redis_url: str, tmp_path: Path) -> AsyncIterator[MakePool]:
    """Starts a pool with the settings given; it is stopped after the test."""
    pools: list[RayPool] = []

    async def make(**changes: Any) -> RayPool:
        pool = RayPool(tmp_path, changes.pop("redis_url", redis_url), **changes)
        if broken := changes.get("broken"):
            pool.write_app(broken=broken)
        pools.append(pool)
        await pool.start()
        return pool

    yield make
    for pool in pools:
        await pool.stop()


@pytest.fixture
async def fragile_pool(make_pool: MakePool, own_redis: RedisServer) -> RayPool:
    """A pool on a Redis that the test may kill."""
    return await make_pool(redis_url=own_redis.url)
