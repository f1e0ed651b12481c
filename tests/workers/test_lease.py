"""A lease not renewed ends calls that are well; a slot not released refuses callers."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from rayrtc.cluster.models import ConnectionState, Drain, EndReason, Lease, LiveConnection
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.errors import NoWorkerAvailable
from rayrtc.settings import Settings
from tests.redis_server import RedisServer
from workers.lease import LeaseRenewal

LEASE = Lease(
    worker_id="w1",
    node="n",
    host="127.0.0.1",
    address="http://127.0.0.1:1",
    slots=4,
    streams=("echo",),
)


class Held:
    """The worker's connections as the renewal sees them."""

    def __init__(self) -> None:
        self.sessions: list[LiveConnection] = []
        self.closed: list[tuple[str, EndReason]] = []

    def live(self) -> Sequence[LiveConnection]:
        return list(self.sessions)

    async def close(self, connection_id: str, reason: EndReason) -> None:
        self.closed.append((connection_id, reason))
        self.sessions = [c for c in self.sessions if c.connection_id != connection_id]

    def add(self, connection_id: str, session: int) -> LiveConnection:
        connection = LiveConnection(connection_id=connection_id, session=session, stream="echo")
        self.sessions.append(connection)
        return connection


class Parts:
    """A renewal with its registry."""

    def __init__(self, url: str) -> None:
        self.settings = Settings(redis_url=url, lease_interval=0.1, lease_ttl=1.0)
        self.pools = RedisPools(self.settings)
        self.registry = Registry(self.pools.commands, self.settings)
        self.held = Held()
        self.drains: list[Drain] = []
        self.renewal = LeaseRenewal(
            self.registry, self.held, lambda: LEASE, self.drains.append, 0.1, 1.0
        )

    async def reserved(self, connection_id: str) -> int:
        """Reserve a slot, once the registry has settled; returns the session."""
        async with asyncio.timeout(5):
            while True:
                try:
                    return (await self.registry.reserve("echo", 9, connection_id)).session
                except NoWorkerAvailable:
                    await asyncio.sleep(0.05)


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[Parts]:
    parts = Parts(redis_url)
    yield parts
    await parts.pools.aclose()


@pytest.fixture
async def fragile(own_redis: RedisServer) -> AsyncIterator[Parts]:
    parts = Parts(own_redis.url)
    yield parts
    await parts.pools.aclose()


async def test_renewal_keeps_worker_and_connections(parts: Parts) -> None:
    running = asyncio.create_task(parts.renewal.run())
    session = await parts.reserved("c1")
    parts.held.add("c1", session)
    await asyncio.sleep(1.5)
    (status,) = await parts.registry.workers()
    assert (status.used, status.reserved) == (1, 0)
    running.cancel()
    await asyncio.sleep(1.3)
    assert [r.connection_id for r in await parts.registry.reap(["w1"])] == ["c1"]


async def test_release_frees_the_slot(parts: Parts) -> None:
    await parts.renewal.renew()
    connection = parts.held.add("c1", await parts.reserved("c1"))
    await parts.renewal.renew()
    parts.held.sessions.clear()
    await parts.renewal.release(connection, EndReason.TIME_LIMIT)
    record = await parts.registry.find("c1")
    assert record is not None
    assert (record.state, record.reason) == (ConnectionState.CLOSED, EndReason.TIME_LIMIT)


async def test_what_belongs_to_somebody_else_is_closed(parts: Parts) -> None:
    await parts.renewal.renew()
    session = await parts.reserved("c1")
    parts.held.add("c1", session)
    await parts.renewal.renew()
    await parts.registry.release("c1", session, EndReason.WORKER_LOST)
    await parts.renewal.renew()
    await asyncio.sleep(0)
    assert [connection_id for connection_id, _ in parts.held.closed] == ["c1"]


async def test_the_newer_session_of_an_id_survives_the_older_ones_conflict(parts: Parts) -> None:
    await parts.renewal.renew()
    first = await parts.reserved("c1")
    parts.held.add("c1", first)
    await parts.renewal.renew()
    await parts.registry.release("c1", first, EndReason.REPLACED)
    parts.held.add("c1", await parts.reserved("c1"))
    await parts.renewal.renew()
    await asyncio.sleep(0)
    assert not parts.held.closed


async def test_an_empty_redis_gets_lease_and_connections_back(
    fragile: Parts, own_redis: RedisServer
) -> None:
    running = asyncio.create_task(fragile.renewal.run())
    session = await fragile.reserved("c1")
    fragile.held.add("c1", session)
    ended = fragile.held.add("c2", await fragile.reserved("c2"))
    await asyncio.sleep(0.3)
    own_redis.kill()
    fragile.held.sessions.remove(ended)
    await fragile.renewal.release(ended, EndReason.CLIENT_CLOSED)
    await asyncio.sleep(1.5)
    assert not running.done()
    assert fragile.renewal.failures
    own_redis.start()
    async with asyncio.timeout(5):
        while (record := await fragile.registry.find("c1")) is None:
            await asyncio.sleep(0.05)
    assert (record.session, record.state) == (session, ConnectionState.LIVE)
    (status,) = await fragile.registry.workers()
    assert status.used == 1
    assert not fragile.held.closed
    running.cancel()
