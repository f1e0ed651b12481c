"""What a replica counts, and the cluster's gauges that it reads from the registry at each scrape.

All labels are of bounded sets: outcomes are error codes, streams are those of the application.
"""

import asyncio
import logging
from collections.abc import Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from control_plane.limits import PROBE_TIMEOUT
from rayrtc.cluster.models import WorkerState
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.redis_time import RELAY_SECONDS
from rayrtc.cluster.registry import Registry
from rayrtc.errors import RayRTCError, error_types

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

logger = logging.getLogger(__name__)


class Metrics:
    """The metrics of one replica, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.offers = Counter(
            "rayrtc_offers",
            "Offers by outcome: answered, resumed (it took the place of a live one), or an error.",
            ["stream", "outcome"],
            registry=registry,
        )
        self.offer_seconds = Histogram(
            "rayrtc_offer_seconds",
            "Time from offer to answer or refusal.",
            ["stream"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.candidates = Counter(
            "rayrtc_candidates", "Remote candidates by outcome.", ["outcome"], registry=registry
        )
        self.inputs = Counter(
            "rayrtc_inputs", "Inputs by outcome.", ["stream", "outcome"], registry=registry
        )
        self.sse_clients = Gauge(
            "rayrtc_sse_clients", "Open event streams.", ["route"], registry=registry
        )
        self.sockets = Gauge(
            "rayrtc_websocket_clients",
            "WebSockets whose media this replica passes on.",
            ["transport"],
            registry=registry,
        )
        self.socket_starts = Counter(
            "rayrtc_websocket_starts",
            "Connections asked for over WebSocket, by outcome.",
            ["stream", "transport", "outcome"],
            registry=registry,
        )
        self.outputs = Counter(
            "rayrtc_outputs_delivered", "Outputs sent to event streams.", registry=registry
        )
        self.output_delay = Histogram(
            "rayrtc_output_relay_seconds",
            "Time from a worker's output until it is written to an event stream that awaits it.",
            buckets=RELAY_SECONDS,
            registry=registry,
        )
        self.gaps = Counter("rayrtc_output_gaps", "Gaps shown to event streams.", registry=registry)
        self.redis_errors = Counter(
            "rayrtc_redis_errors", "Requests that failed because of Redis.", registry=registry
        )
        self.redis_up = Gauge(
            "rayrtc_redis_up", "Whether Redis answered at the scrape.", registry=registry
        )
        self.workers = Gauge("rayrtc_workers", "Workers by state.", ["state"], registry=registry)
        self.slots = Gauge(
            "rayrtc_slots",
            "Slots of the cluster: total, used by live connections, reserved by offers.",
            ["state"],
            registry=registry,
        )
        self.connections = Gauge(
            "rayrtc_stream_connections",
            "Connections of a stream over the whole cluster: live, reserved by offers.",
            ["stream", "state"],
            registry=registry,
        )

    def begin(self, streams: Iterable[str]) -> None:
        """Make the series of each stream's offers, at zero.

        To Prometheus one that appears with its first event has not grown: no rate and no alert
        would see that event.
        """
        for stream in streams:
            self.offer_seconds.labels(stream)
            for outcome in ("answered", "resumed", "cancelled", RayRTCError.code, *error_types()):
                self.offers.labels(stream, outcome)

    async def scrape(self, cluster: Registry, streams: Iterable[str]) -> bytes:
        """All metrics in Prometheus' text format; without the cluster's when Redis is away."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                workers = await cluster.workers()
                usage = await cluster.streams(list(streams))
        except UNREACHABLE as error:
            logger.info("no cluster metrics: %s", error)
            self.redis_up.set(0)
            for gauge in (self.workers, self.slots, self.connections):
                gauge.clear()
            return generate_latest(self.registry)
        self.redis_up.set(1)
        for state in WorkerState:
            self.workers.labels(state).set(sum(worker.state is state for worker in workers))
        self.slots.labels("total").set(sum(worker.slots for worker in workers))
        self.slots.labels("used").set(sum(worker.used for worker in workers))
        self.slots.labels("reserved").set(sum(worker.reserved for worker in workers))
        for stream in usage:
            self.connections.labels(stream.stream, "live").set(stream.connections)
            self.connections.labels(stream.stream, "reserved").set(stream.reserved)
        return generate_latest(self.registry)
