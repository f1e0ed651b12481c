"""What `rayrtc workers` runs: this machine as a node of the pool, from start to stop."""

import asyncio
import logging
import math
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from rayrtc import tracing
from rayrtc.cluster.models import Drain
from rayrtc.cluster.redis import UNREACHABLE, Backoff, RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.memory import MemoryGuard
from workers.metrics import FETCH_TIMEOUT, NodeMetrics
from workers.pool import PoolStatus, WorkerPhase
from workers.ray_node import RayNode, RayNodeError

logger = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at whether to stop."""
DRAIN_POLL = 0.5
"""Seconds between two looks at how many calls are left."""
STATUS_TIMEOUT = 10.0
"""Seconds for the supervisor to answer while the pool starts."""
START_FAILURES = 5
"""Failed starts in a row after which a node that joined a cluster gives up."""
STOP_GRACE = 7.0
"""Seconds beyond `stop_timeout` for the supervisor to stop workers."""


class ServiceError(RuntimeError):
    """The workers cannot be served; the text is for the operator."""


def run(
    spec: str,
    settings: Settings,
    *,
    on_progress: Callable[[str], None],
    on_ready: Callable[[PoolStatus], None],
    stop: threading.Event,
    at_once: threading.Event,
    reload: threading.Event | None = None,
    on_reloaded: Callable[[PoolStatus], None] | None = None,
) -> None:
    """Serve workers on this machine until `stop` is set. Call it from the main thread.

    Then no new calls come here, and those that run have `drain_timeout` to end. A node that Ray
    gave up, because the network was away for example, joins again by itself.

    Args:
        spec: MODULE:ATTR of the application; its module is found from the working directory.
        on_progress: told what is being waited for.
        on_ready: told once, when this node's workers are ready.
        at_once: when set too, the calls that run are ended.
        reload: when set, new workers load the application anew and replace the old ones.
        on_reloaded: told when the new workers are ready.

    Raises:
        ServiceError: the workers cannot be started.
        ValueError: a setting is missing.
    """
    settings.secret()
    if settings.ray_address is None:
        # Ray is on 127.0.0.1 then, and so is everything else that nobody needs from outside
        settings = settings.model_copy(update={"worker_bind": "127.0.0.1"})
    if settings.log_format == "auto" and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "text"})
    with _listen(settings) as listener:
        backoff = Backoff()
        served = False
        while True:
            service = _Service(spec, settings, listener.dup(), stop, at_once)
            service.on_progress, service.on_ready = on_progress, on_ready
            service.reload, service.on_reloaded = reload, on_reloaded
            try:
                service.serve()
                return
            except ServiceError as error:
                served = served or service.was_ready
                if settings.ray_address is None or not served or stop.is_set():
                    raise
                if service.was_ready:
                    backoff.reset()
                logger.error("joining Ray again: %s", error)
            if stop.wait(backoff.next()):
                return


def _listen(settings: Settings) -> socket.socket:
    """The socket of the metrics, bound before anything is started that would have to be undone."""
    family = socket.AF_INET6 if ":" in settings.worker_bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.worker_bind, settings.metrics_port))
    except OSError as error:
        listener.close()
        raise ServiceError(
            f"metrics cannot be served on {settings.worker_bind}:{settings.metrics_port}: "
            f"{error.strerror}; set RAYRTC_METRICS_PORT"
        ) from error
    return listener


class _Service:
    """One membership of this machine in the cluster."""

    on_progress: Callable[[str], None]
    on_ready: Callable[[PoolStatus], None]
    reload: threading.Event | None
    on_reloaded: Callable[[PoolStatus], None] | None

    def __init__(
        self,
        spec: str,
        settings: Settings,
        listener: socket.socket,
        stop: threading.Event,
        at_once: threading.Event,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._node = RayNode(settings)
        self._listener = listener
        self._stop = stop
        self._at_once = at_once
        self._supervisor: Any = None
        self.was_ready = False
        """Whether its workers could be used."""

    def serve(self) -> None:
        """Join Ray, serve, and leave.

        Raises:
            ServiceError: the workers cannot be started, or the node was lost.
        """
        try:
            self._node.start(self.on_progress)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self.run())
        except RayNodeError as error:
            raise ServiceError(str(error)) from error
        except SystemExit:
            # SIGTERM while Ray starts
            logger.info("stopped while starting")
        finally:
            self._node.stop()
            self._listener.close()

    async def run(self) -> None:
        """From finding the supervisor to the end of this node's workers."""
        pools = RedisPools(self._settings)
        registry = self._registry = Registry(pools.commands, self._settings)
        guard = MemoryGuard(self._node.node_id, registry, pools.commands, self._settings)
        metrics = NodeMetrics(
            self._node.node_id, registry, self._settings.secret(), self._status_or_none, guard
        )
        guarding = asyncio.create_task(guard.run(), name="memory guard")
        try:
            self._supervisor = await self._find_supervisor()
            await self._join()
            await metrics.start(self._listener)
            status = await self._until_ready()
            if status is not None:
                self.was_ready = True
                self.on_ready(status)
                await self._until_stopped()
                await self._drain()
        finally:
            guarding.cancel()
            await asyncio.wait([guarding])
            await metrics.stop()
            await pools.aclose()
            if self._supervisor is not None:
                await self._leave()

    async def _find_supervisor(self) -> Any:
        """The supervisor of the cluster; the first service to come creates it."""
        import ray
        from ray.exceptions import RayError

        from workers.member import brief, in_thread
        from workers.supervisor import NAME, Supervisor

        def create() -> Any:
            actor_class: Any = ray.remote(Supervisor)
            return actor_class.options(
                name=NAME,
                namespace=self._settings.cluster,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
            ).remote(
                self._spec,
                {**tracing.environment(), **self._settings.environment()},
                [str(Path.cwd())],
                secrets.token_hex(4),
            )

        self.on_progress("starting the pool")
        try:
            supervisor = await in_thread(create)
        except (RayError, ValueError, TimeoutError) as error:
            raise ServiceError(f"the pool's supervisor cannot be found: {brief(error)}") from error
        status = await self._status(supervisor)
        if status.spec != self._spec:
            logger.warning(
                "the cluster's pool runs %s, not %s: stop all of its services to change that",
                status.spec,
                self._spec,
            )
        return supervisor

    async def _join(self) -> None:
        """This node may be one that has left or been drained before."""
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                await self._registry.undrain(self._node.node_id)
                await self._supervisor.join.remote(self._node.node_id)
        except (RayError, *UNREACHABLE) as error:
            raise ServiceError(f"this node cannot join the pool: {error or 'no answer'}") from error

    async def _status(self, supervisor: Any) -> PoolStatus:
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(STATUS_TIMEOUT + self._settings.worker_start_timeout):
                while True:
                    try:
                        status: PoolStatus = await supervisor.status.remote()
                        return status
                    except RayError as error:
                        if isinstance(error, ray_task_error()):
                            raise ServiceError(f"the supervisor failed: {error}") from error
                        await asyncio.sleep(POLL)  # it is being restarted
        except TimeoutError:
            raise ServiceError("the pool's supervisor does not answer") from None

    async def _status_or_none(self) -> PoolStatus | None:
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                status: PoolStatus = await self._supervisor.status.remote()
                return status
        except (TimeoutError, RayError):
            return None

    async def _until_ready(self, code_version: str | None = None) -> PoolStatus | None:
        """The status once this node has a worker that is ready; None when stopped before.

        Raises:
            ServiceError: the workers do not start.
        """
        told = ""
        before: int | None = None  # failures of others, which this node may be there to end
        while not self._stop.is_set():
            self._check_node()
            status = await self._status(self._supervisor)
            if status.full and code_version in (None, status.code_version):
                return status
            if not self._node.own and self._has_ready_worker(status, code_version):
                return status
            before = status.failures if before is None else min(before, status.failures)
            failures = status.failures if self._node.own else status.failures - before
            if status.error and failures >= (1 if self._node.own else START_FAILURES):
                raise ServiceError(status.error)
            news = status.error or f"{status.ready} of {status.wanted} workers are ready"
            if news != told:
                self.on_progress(news)
                told = news
            await asyncio.sleep(POLL)
        return None

    def _has_ready_worker(self, status: PoolStatus, code_version: str | None) -> bool:
        return any(
            w.node == self._node.node_id
            and w.phase is WorkerPhase.READY
            and code_version in (None, w.code_version)
            for w in status.workers
        )

    async def _until_stopped(self) -> None:
        while not self._stop.is_set():
            self._check_node()
            if self.reload is not None and self.reload.is_set():
                self.reload.clear()
                await self._reload()
            await asyncio.sleep(POLL)

    async def _reload(self) -> None:
        """Replace all workers; code that cannot be loaded leaves the old ones at work."""
        from ray.exceptions import RayError

        code_version = secrets.token_hex(4)
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                await self._supervisor.reload.remote(code_version)
            status = await self._until_ready(code_version)
        except (ServiceError, RayError, TimeoutError) as error:
            self.on_progress(f"not reloaded, the former code goes on: {error}")
            return
        if status is not None and self.on_reloaded is not None:
            self.on_reloaded(status)

    async def _drain(self) -> None:
        """Let the calls of this node end, as long as they may."""
        deadline = time.monotonic() + self._settings.drain_timeout
        told = -1
        asked = False
        trusted = -math.inf
        """From when on the registry is complete: workers come back one by one to a Redis that was
        away."""
        while not self._at_once.is_set() and self._node.alive():
            # what is left at the deadline is closed by its worker
            if (remaining := deadline - time.monotonic()) < -self._settings.stop_timeout:
                return
            try:
                if not asked:
                    drain = Drain(seconds=max(0.0, remaining))
                    await self._registry.drain([self._node.node_id], drain)
                    asked = True
                calls = await self._calls()
                if await self._registry.settling():
                    trusted = time.monotonic() + self._settings.lease_interval
            except UNREACHABLE as error:
                trusted = time.monotonic() + self._settings.lease_ttl
                if told:
                    logger.warning("draining without Redis: %s", error)
                told = 0
                if await self._empty_without_redis(max(0.0, remaining)):
                    return
            else:
                if not calls and time.monotonic() >= trusted:
                    return
                if calls != told:
                    self.on_progress(f"draining: {calls} calls, {remaining:.0f} s left")
                told = calls
            await asyncio.sleep(DRAIN_POLL)

    async def _empty_without_redis(self, seconds: float) -> bool:
        """Have the supervisor ask this node's workers to drain. Whether it says they are empty."""
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                busy: int = await self._supervisor.drain.remote(self._node.node_id, seconds)
        except (TimeoutError, RayError):
            return False
        return busy == 0

    async def _calls(self) -> int:
        """Connections of this node's workers, and slots that are held for more."""
        here = [w for w in await self._registry.workers() if w.node == self._node.node_id]
        return sum(worker.used + worker.reserved for worker in here)

    def _check_node(self) -> None:
        if not self._node.alive():
            raise ServiceError("this machine's node of Ray has ended")

    async def _leave(self) -> None:
        """Stop this node's workers, and the supervisor when no other node is left."""
        import ray
        from ray.exceptions import RayError

        from workers.member import brief, in_thread

        try:
            async with asyncio.timeout(self._settings.stop_timeout + STOP_GRACE):
                others = 0
                if not self._node.own:
                    others = await self._supervisor.leave.remote(self._node.node_id)
                if others == 0:
                    await self._supervisor.shutdown.remote()
                    await in_thread(ray.kill, self._supervisor)
        except (TimeoutError, RayError) as error:
            logger.warning("the workers were not stopped in order: %s", brief(error))


def ray_task_error() -> type[Exception]:
    """Ray's type of an error that the actor's code raised."""
    from ray.exceptions import RayTaskError

    return RayTaskError
