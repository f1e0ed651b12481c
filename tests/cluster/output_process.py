"""A process that writes and reads outputs, and what its readers get."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from rayrtc.cluster.models import OutputEntry, Reservation
from rayrtc.cluster.outputs import Gap, Heartbeat, OutputHub, OutputWriter
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from tests.cluster.conftest import live, make_lease

Item = OutputEntry | Gap | Heartbeat


class Process:
    """What one process of the cluster has, worker or replica."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pools = RedisPools(settings)
        self.registry = Registry(self.pools.commands, settings)
        self.writer = OutputWriter(self.pools.commands, settings)
        self.hub = OutputHub(self.pools, self.registry, settings)


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[Process]:
    one = Process(settings)
    tasks = [asyncio.create_task(one.writer.run()), asyncio.create_task(one.hub.run())]
    try:
        yield one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await one.pools.aclose()


async def connect(settled: Registry, connection_id: str = "c1") -> Reservation:
    await settled.renew(make_lease(slots=99), [])
    one = await settled.reserve("echo", 99, connection_id)
    await settled.renew(make_lease(slots=99), live(one))
    return one


async def collect(
    hub: OutputHub,
    connection_id: str = "c1",
    cursor: str | None = None,
    count: int | None = None,
    heartbeat: float = 5,
    timeout: float = 20,
) -> list[Item]:
    """All that a reader gets, heartbeats apart, up to `count` items or the end."""
    items: list[Item] = []
    async with (
        asyncio.timeout(timeout),
        aclosing(hub.read(connection_id, cursor, heartbeat=heartbeat)) as reader,
    ):
        async for item in reader:
            if not isinstance(item, Heartbeat):
                items.append(item)
            if len(items) == count:
                break
    return items


def values(items: list[Item]) -> list[str]:
    return [item.args if isinstance(item, OutputEntry) else "gap" for item in items]


def last_id(items: list[Item]) -> str:
    assert isinstance(items[-1], OutputEntry)
    return items[-1].id


def numbered(first: int, last: int) -> list[str]:
    return [f"[{number}]" for number in range(first, last + 1)]
