"""Short times, so that expiries can be waited for, and one process's connections to Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rayrtc.cluster.models import EndReason, Lease, LiveConnection, Reservation
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

SETTLE = 0.1


def make_settings(redis_url: str, **changed: object) -> Settings:
    values: dict[str, object] = {
        "lease_interval": SETTLE / 2,
        "lease_ttl": 1.0,
        "reservation_ttl": 1.2,
        "record_ttl": 2.0,
        **changed,
    }
    return Settings(redis_url=redis_url, **values)  # type: ignore[arg-type]


def make_lease(worker_id: str = "w1", **changed: object) -> Lease:
    values: dict[str, object] = {
        "worker_id": worker_id,
        "node": "n1",
        "host": "127.0.0.1",
        "address": f"http://{worker_id}:1",
        "slots": 8,
        "streams": ("echo",),
        **changed,
    }
    return Lease.model_validate(values)


def live(*reservations: Reservation) -> list[LiveConnection]:
    return [LiveConnection.model_validate(one.model_dump()) for one in reservations]


async def eventually(
    check: Callable[[], Awaitable[bool]] | Callable[[], bool], timeout: float = 5
) -> None:
    """Return when `check` holds; fail when it does not in time."""
    async with asyncio.timeout(timeout):
        while True:
            result = check()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return make_settings(redis_url)


@pytest.fixture
async def pools(settings: Settings) -> AsyncIterator[RedisPools]:
    pools = RedisPools(settings)
    yield pools
    await pools.aclose()


@pytest.fixture
def registry(pools: RedisPools, settings: Settings) -> Registry:
    return Registry(pools.commands, settings)


@pytest.fixture
async def settled(registry: Registry) -> Registry:
    """A registry that is complete: the first worker came long enough ago. No lease is in it."""
    await registry.renew(make_lease("first"), [])
    await asyncio.sleep(SETTLE + 0.02)
    await registry.withdraw("first", EndReason.WORKER_STOPPED)
    return registry
