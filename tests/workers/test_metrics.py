"""Operators see a node's workers at one place; a worker that hangs must not hide the others."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from rayrtc.cluster.models import Lease
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.memory import MemoryGuard
from workers.metrics import NodeMetrics, merge
from workers.pool import PoolStatus

TEXT = """# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{kind="a"} 3
# HELP delay_seconds Delay.
# TYPE delay_seconds histogram
delay_seconds_bucket{le="1.0"} 1
delay_seconds_bucket{le="+Inf"} 2
delay_seconds_count 2
delay_seconds_sum 4
"""
STATUS = PoolStatus(
    spec="a:b",
    code_version="1",
    wanted=2,
    ready=1,
    starting=1,
    draining=0,
    replaced=3,
    slots=8,
    calls=5,
)


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def test_workers_are_told_apart_within_one_family() -> None:
    families = {family.name: family for family in merge({"w1": TEXT, "w2": TEXT})}
    assert set(families) == {"calls", "delay_seconds"}
    calls = {sample.labels["worker"]: sample for sample in families["calls"].samples}
    assert set(calls) == {"w1", "w2"}
    assert calls["w1"].labels["kind"] == "a"
    assert len(families["delay_seconds"].samples) == 8


def test_unreadable_metrics_of_one_worker_are_left_out() -> None:
    (family,) = merge({"w1": "}{ nonsense", "w2": "# TYPE up gauge\nup 1\n"})
    assert [sample.labels["worker"] for sample in family.samples] == ["w2"]


class Node:
    """A node with a worker that answers and one that hangs."""

    def __init__(self, redis_url: str) -> None:
        self.settings = Settings(redis_url=redis_url)
        self.pools = RedisPools(self.settings)
        self.registry = Registry(self.pools.commands, self.settings)
        self.status: PoolStatus | None = STATUS
        self.guard = MemoryGuard("n1", self.registry, self.pools.commands, self.settings)
        self.metrics = NodeMetrics(
            "n1", self.registry, "a cluster's secret", self._status, self.guard
        )
        self.sockets = [listener() for _ in range(3)]
        self.runner: web.AppRunner | None = None

    async def _status(self) -> PoolStatus | None:
        return self.status

    async def start(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != "Bearer a cluster's secret":
                return web.Response(status=401)
            return web.Response(text=TEXT)

        async def hang(request: web.Request) -> web.Response:
            await asyncio.sleep(20)
            return web.Response()

        app = web.Application()
        app.router.add_get("/good/v1/metrics", answer)
        app.router.add_get("/hung/v1/metrics", hang)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.SockSite(self.runner, self.sockets[0]).start()
        port = self.sockets[0].getsockname()[1]
        for worker_id, node in (("good", "n1"), ("hung", "n1"), ("far", "n2")):
            lease = Lease(
                worker_id=worker_id,
                node=node,
                host="127.0.0.1",
                address=f"http://127.0.0.1:{port}/{worker_id}",
                slots=4,
                streams=("echo",),
            )
            await self.registry.renew(lease, [])
        await self.metrics.start(self.sockets[1])

    async def stop(self) -> None:
        await self.metrics.stop()
        if self.runner is not None:
            await self.runner.cleanup()
        await self.pools.aclose()

    async def scrape(self) -> dict[tuple[str, ...], float]:
        """Samples by name and label values."""
        port = self.sockets[1].getsockname()[1]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            assert response.status == 200
            text = await response.text()
        families = list(text_string_to_metric_families(text))
        assert len({family.name for family in families}) == len(families)
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    node = Node(redis_url)
    await node.start()
    yield node
    await node.stop()


async def test_one_endpoint_for_all_workers_of_the_node(node: Node) -> None:
    async with asyncio.timeout(5):
        samples = await node.scrape()
    assert samples["calls_total", "a", "good"] == 3
    assert samples["rayrtc_worker_up", "good"] == 1
    assert samples["rayrtc_worker_up", "hung"] == 0
    assert ("rayrtc_worker_up", "far") not in samples
    assert samples["rayrtc_pool_workers_wanted",] == 2
    assert samples["rayrtc_pool_workers", "ready"] == 1
    assert samples["rayrtc_pool_workers_replaced_total",] == 3
    assert samples["rayrtc_node_workers_out_of_memory_total",] == 0


async def test_a_pool_without_supervisor_is_visible(node: Node) -> None:
    node.status = None
    samples = await node.scrape()
    assert samples["rayrtc_pool_up",] == 0
    assert samples["calls_total", "a", "good"] == 3
