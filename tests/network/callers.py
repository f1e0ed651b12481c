"""People on the phone while a part of the cluster fails: their media and what they are told."""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field

from tests.e2e.packets import Listener
from tests.e2e.sse import Reader
from tests.network.cluster import Cluster

CONNECT_TIMEOUT = 20.0
LAG_POLL = 0.01
"""Seconds."""


@dataclass(eq=False)
class Caller:
    """One call: its media, and the event stream of its outputs.

    Attributes:
        worker: id of its worker.
        host: address of the worker's node.
        told: when its end arrived, by the monotonic clock.
        reason: of its end.
    """

    listener: Listener
    reader: Reader
    replica: str
    worker: str = ""
    host: str = ""
    told: float | None = None
    reason: str = ""
    watching: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return self.listener.webrtc_id

    async def watch(self) -> None:
        """Note when the end arrives."""
        while not (ends := self.reader.outputs("end")):
            await asyncio.sleep(0.01)
        self.told = time.monotonic()
        self.reason = json.loads(ends[0].data)["reason"]

    async def hang_up(self) -> None:
        if self.watching is not None:
            self.watching.cancel()
            await asyncio.wait([self.watching])
        await self.listener.close()
        await self.reader.close()


class Callers:
    """Keeps a number of calls up."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._replicas = itertools.cycle(cluster.replicas)
        self.all: list[Caller] = []
        self._late: list[tuple[float, float]] = []
        self._watching = asyncio.create_task(self._watch_own_loop())

    async def _watch_own_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_POLL
            await asyncio.sleep(LAG_POLL)
            if (lag := loop.time() - due) > LAG_POLL:
                self._late.append((loop.time(), lag))

    def own_lag(self, begin: float) -> float:
        """How long this process itself stood still at most since `begin`, in seconds.

        A gap in what it received may be as long without a packet having been late.
        """
        return max((lag for at, lag in self._late if at >= begin), default=0.0)

    async def fill(self, count: int) -> None:
        """Hang up what has ended, and call until there are `count` that have media."""
        for caller in [c for c in self.all if c.told is not None]:
            await self.drop(caller)
        while len(self.all) < count:
            missing = min(5, count - len(self.all))
            self.all += await asyncio.gather(*(self.call() for _ in range(missing)))
        where = {c.connection_id: c.worker_id for c in await self._cluster.connections()}
        hosts = {w.worker_id: w.host for w in await self._cluster.workers()}
        for caller in self.all:
            caller.worker = where[caller.id]
            caller.host = hosts[caller.worker]
        await asyncio.sleep(2)

    async def call(self) -> Caller:
        """A new call, through the replicas in turn."""
        replica = next(self._replicas)
        url = self._cluster.replicas[replica]
        listener = Listener(url, loopback=False)
        try:
            await listener.connect(CONNECT_TIMEOUT)
        except BaseException:
            await listener.close()
            raise
        caller = Caller(listener, Reader(url + "/updates", listener.webrtc_id), replica)
        caller.watching = asyncio.create_task(caller.watch())
        return caller

    async def drop(self, caller: Caller) -> None:
        """Hang up."""
        self.all.remove(caller)
        await caller.hang_up()

    async def close(self) -> None:
        self._watching.cancel()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Hang up all calls."""
        await asyncio.gather(*(caller.hang_up() for caller in self.all))
        self.all.clear()

    def of(self, worker: str) -> list[Caller]:
        return [caller for caller in self.all if caller.worker == worker]


@dataclass
class Media:
    """What a group of calls got between two moments."""

    calls: int
    lost: int
    gap: float
    """Longest time in which a call got no packet, seconds."""

    def __str__(self) -> str:
        return f"{self.calls} calls: {self.lost} packets lost, longest gap {self.gap * 1000:.0f} ms"


def media(callers: list[Caller], begin: float) -> Media:
    """What they got since `begin`."""
    spans = [caller.listener.span(begin, time.monotonic()) for caller in callers]
    return Media(len(spans), sum(s.lost for s in spans), max((s.gap for s in spans), default=0.0))
