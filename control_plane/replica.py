"""What the routes of one application share in one process, and its life from start to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute

from control_plane.assignment import Assignment
from control_plane.candidates import Candidates
from control_plane.limits import ContractRoute, ContractSocketRoute
from control_plane.metrics import Metrics
from control_plane.resume_token import ResumeTokens
from control_plane.sse import Readers
from control_plane.worker_client import WorkerClient
from rayrtc import tracing
from rayrtc.cluster.client import Cluster
from rayrtc.errors import NoWorkerAvailable
from rayrtc.settings import Settings, get_settings
from rayrtc.stream import Stream

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What exists while the application runs."""

    settings: Settings
    cluster: Cluster
    workers: WorkerClient
    assignment: Assignment
    candidates: Candidates
    resume_tokens: ResumeTokens
    readers: Readers


class Replica:
    """The control plane of one application: `app.state.rayrtc`.

    `settings` may be given before the application starts; else they come from the environment.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.paths: dict[str, str] = {}
        """Where each stream is mounted, without a slash at the end."""
        self.settings: Settings | None = None
        self.sockets_starting = 0
        """WebSockets that wait for their `start` or their worker."""
        self.metrics = Metrics()
        self._services: Services | None = None

    @property
    def services(self) -> Services:
        """What the routes work with.

        Raises:
            NoWorkerAvailable: the application's lifespan does not run.
        """
        if self._services is None:
            raise NoWorkerAvailable("the application is not started, or stops")
        return self._services

    def stop_streams(self) -> None:
        """End all event streams and long polls, so that the server can stop."""
        if self._services is not None:
            self._services.readers.stopping.set()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Connect to the cluster and bind the streams, until the application ends."""
        settings = self.settings or get_settings()
        self.metrics.begin(self.streams)
        async with AsyncExitStack() as stack:
            tracing.start("rayrtc-control-plane")
            stack.callback(tracing.stop)
            cluster = Cluster(settings)
            stack.push_async_callback(cluster.aclose)
            await cluster.open()
            workers = WorkerClient(settings.secret())
            stack.push_async_callback(workers.aclose)
            assignment = Assignment(cluster, workers, settings.worker_timeout)
            stack.push_async_callback(assignment.aclose)
            for stream in self.streams.values():
                stream.bind(cluster, asyncio.get_running_loop())
                stack.push_async_callback(stream.unbind)
                if stream.without_effect:
                    logger.warning(
                        "stream %s: %s of FastRTC's Gradio page have no effect here: the page at / "
                        "makes its form from Stream(inputs=...) and shows all outputs",
                        stream.name,
                        ", ".join(stream.without_effect),
                    )
                if stream.verbose:
                    path = self.paths[stream.name]
                    logger.info("stream %s: POST %s/webrtc/offer", stream.name, path)
            self._services = Services(
                settings=settings,
                cluster=cluster,
                workers=workers,
                assignment=assignment,
                candidates=Candidates(cluster.candidate_arrivals, workers, settings.worker_timeout),
                resume_tokens=ResumeTokens(settings.cluster, settings.secret()),
                readers=Readers(settings.sse_clients_max, self.metrics),
            )
            try:
                yield
            finally:
                self.stop_streams()
                self._services = None


def replica_of(app: FastAPI) -> Replica:
    """The replica of an application, made and tied to its lifespan at the first call."""
    replica: Replica | None = getattr(app.state, "rayrtc", None)
    if replica is None:
        replica = app.state.rayrtc = Replica()
        app.state.rayrtc_streams = replica.streams
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
            # ours is outside, so that the application's own start and stop can use its streams
            _yield_to_application(app)
            async with replica.run(), inner(app) as state:
                yield state

        app.router.lifespan_context = lifespan
    return replica


def _yield_to_application(app: FastAPI) -> None:
    """Take out those of our routes that the application has itself, like `/input_hook`."""
    routes = app.router.routes
    theirs = {
        (context.path, method)
        for context in iter_route_contexts(routes)
        if not isinstance(context.original_route, ContractRoute)
        for method in context.methods or ()
    }
    their_sockets = {
        context.path
        for context in iter_route_contexts(routes)
        if isinstance(context.original_route, WebSocketRoute)
        and not isinstance(context.original_route, ContractSocketRoute)
    }
    for route in list(routes):
        if (
            isinstance(route, ContractRoute)
            and any((route.path, method) in theirs for method in route.methods or ())
        ) or (isinstance(route, ContractSocketRoute) and route.path in their_sockets):
            routes.remove(route)
