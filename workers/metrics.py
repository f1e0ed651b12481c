"""One metrics endpoint per node: its workers' metrics, each with its label, and the pool's."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import aiohttp
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from rayrtc.cluster.models import Lease
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry
from workers.memory import MemoryGuard
from workers.pool import PoolStatus

logger = logging.getLogger(__name__)

FETCH_TIMEOUT = 2.0
"""Seconds for a worker, the registry or the supervisor to answer."""
METRICS_MAX = 4 << 20
"""Bytes that a worker's metrics may have."""


class _Collected:
    """Families in the form that `generate_latest` writes."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge(texts: dict[str, str]) -> list[Metric]:
    """The metric families of several workers as one of each name.

    Args:
        texts: Prometheus text by worker id, which becomes the label `worker`.
    """
    merged: dict[str, Metric] = {}
    for worker_id, text in sorted(texts.items()):
        try:
            families = list(text_string_to_metric_families(text))
        except ValueError as error:
            logger.warning("worker %s has no readable metrics: %s", worker_id, error)
            continue
        for family in families:
            into = merged.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            if into.type != family.type:
                continue  # of another version of the code: a family has one type
            into.samples += [
                sample._replace(labels={**sample.labels, "worker": worker_id})
                for sample in family.samples
            ]
    return list(merged.values())


def pool_families(status: PoolStatus | None) -> list[Metric]:
    """The pool's own metrics; `rayrtc_pool_up` alone when the supervisor does not answer.

    Every node says the same of the pool: take the maximum over instances, not the sum.
    """
    up = GaugeMetricFamily("rayrtc_pool_up", "1 when the pool's supervisor answers.")
    up.add_metric([], 0.0 if status is None else 1.0)
    if status is None:
        return [up]
    workers = GaugeMetricFamily(
        "rayrtc_pool_workers", "Workers of the pool by phase.", labels=["phase"]
    )
    for phase in ("ready", "starting", "draining"):
        workers.add_metric([phase], getattr(status, phase))
    wanted = GaugeMetricFamily("rayrtc_pool_workers_wanted", "Workers that the pool should have.")
    wanted.add_metric([], status.wanted)
    slots = GaugeMetricFamily("rayrtc_pool_slots", "Slots of all ready workers.")
    slots.add_metric([], status.slots)
    calls = GaugeMetricFamily("rayrtc_pool_calls", "Connections on all workers.")
    calls.add_metric([], status.calls)
    failures = GaugeMetricFamily(
        "rayrtc_pool_start_failures", "Failed starts of workers since the last that went well."
    )
    failures.add_metric([], status.failures)
    replaced = CounterMetricFamily(
        "rayrtc_pool_workers_replaced", "Workers that died or hung and were replaced."
    )
    replaced.add_metric([], status.replaced)
    return [up, workers, wanted, slots, calls, failures, replaced]


class NodeMetrics:
    """Serves `GET /metrics` for the workers of one node.

    Args:
        node_id: Ray's id of the node.
        secret: the cluster secret, which the workers ask for.
        status: the pool's status, None when the supervisor does not answer.
        guard: what watches the workers' memory.
    """

    def __init__(
        self,
        node_id: str,
        registry: Registry,
        secret: str,
        status: Callable[[], Awaitable[PoolStatus | None]],
        guard: MemoryGuard,
    ) -> None:
        self._node_id = node_id
        self._registry = registry
        self._secret = secret
        self._status = status
        self._guard = guard
        self._leases: list[Lease] = []
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._secret}"},
            timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT),
        )
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        app.router.add_get("/healthz", self._healthz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=FETCH_TIMEOUT)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Serve no longer."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def collect(self) -> bytes:
        """Metrics of all workers here and of the pool, as Prometheus text."""
        status, _ = await asyncio.gather(self._status(), self._look_up_leases())
        leases = self._leases
        texts = await asyncio.gather(*(self._fetch(lease) for lease in leases))
        answered = GaugeMetricFamily(
            "rayrtc_worker_up", "1 when the worker's metrics could be read.", labels=["worker"]
        )
        for lease, text in zip(leases, texts, strict=True):
            answered.add_metric([lease.worker_id], 0.0 if text is None else 1.0)
        known = {
            lease.worker_id: text
            for lease, text in zip(leases, texts, strict=True)
            if text is not None
        }
        over_memory = CounterMetricFamily(
            "rayrtc_node_workers_out_of_memory", "Workers of this node ended for their memory."
        )
        over_memory.add_metric([], self._guard.ended)
        families = [*pool_families(status), over_memory, answered, *merge(known)]
        return generate_latest(_Collected(families))

    async def _look_up_leases(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                workers = await self._registry.workers()
        except UNREACHABLE:
            return  # Redis is away: those that were here are asked
        self._leases = [worker for worker in workers if worker.node == self._node_id]

    async def _fetch(self, lease: Lease) -> str | None:
        assert self._session is not None
        try:
            async with self._session.get(f"{lease.address}/v1/metrics") as response:
                if response.status != 200:
                    return None
                body = await response.content.read(METRICS_MAX + 1)
                while chunk := await response.content.read(METRICS_MAX):
                    body += chunk
                    if len(body) > METRICS_MAX:
                        return None
                return body.decode()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError):
            return None

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(
            body=await self.collect(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")
