"""The media worker: a Ray actor that hosts connections and says so in its lease.

It knows the registry, the relay and its own connections; the pool is the supervisor's.
"""

import asyncio
import faulthandler
import gc
import logging
import math
import os
import sys
import time
import traceback
from typing import Any

import prometheus_client
import ray

from rayrtc import tracing
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.inputs import InputReader
from rayrtc.cluster.models import (
    Drain,
    EndReason,
    InputEntry,
    Lease,
    LiveConnection,
    Model,
    WorkerState,
)
from rayrtc.cluster.outputs import OutputWriter, append_lost
from rayrtc.cluster.redis_time import RELAY_SECONDS
from rayrtc.loader import load, streams_of
from rayrtc.logs import configure
from rayrtc.settings import Settings
from workers import calls
from workers.draining import Draining
from workers.frame_memory import keep_frame_memory
from workers.handler_thread import left_behind
from workers.lease import LeaseRenewal
from workers.load import LoadMeter
from workers.memory import STACKS_SIGNAL
from workers.needs import Needs, by_needs
from workers.network import of_this_machine, open_port
from workers.udp_mux import PortError
from workers.watchdog import Watchdog

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT = 2.0
"""Seconds that a stopping worker tries to write the last outputs."""
END_DELAY = 5.0
"""Seconds after `stop` when the process ends by itself, should nobody have ended it."""
SWITCH_INTERVAL = 0.0005
"""Seconds that a handler's thread may hold the GIL while the loop wants it. With Python's 5 ms one
handler that computes left the calls of its worker 17 of their 50 packets a second."""

LOAD = prometheus_client.Gauge("rayrtc_worker_load_ratio", "Load of the worker, 0 idle to 1 full.")
LAG = prometheus_client.Gauge(
    "rayrtc_worker_event_loop_lag_seconds", "Mean lag of the worker's event loop."
)
SLOTS = prometheus_client.Gauge("rayrtc_worker_slots", "Connections that the worker may hold.")
ACCEPTING = prometheus_client.Gauge(
    "rayrtc_worker_accepting", "1 when the worker takes new connections, 0 when it drains."
)
INPUT_DELAY = prometheus_client.Histogram(
    "rayrtc_worker_input_relay_seconds",
    "Time from an input at a replica until the worker has it.",
    buckets=RELAY_SECONDS,
)
DRAIN_LEFT = prometheus_client.Gauge(
    "rayrtc_worker_drain_left_seconds",
    "Time until the calls of a worker that drains are closed, negative after that; else +Inf.",
)
RENEWAL_FAILURES = prometheus_client.Gauge(
    "rayrtc_worker_lease_failures", "Renewals of the lease that failed since the worker started."
)


class StartError(RuntimeError):
    """The worker cannot serve: its one argument says why, as the operator should read it."""


class WorkerReport(Model):
    """What a worker answers to `ping`."""

    lease: Lease
    calls: int
    sessions: int
    """Connections accepted since it started."""
    left_behind: int = 0
    """Calls of handlers that outlived their connections."""
    needs: Needs = ()
    """What it was given; it serves the streams that need this."""
    pools: tuple[Needs, ...] = ()
    """What the streams of the application need."""
    stopped: bool = False


class MediaWorker:
    """Hosts the connections of one process.

    Args:
        spec: MODULE:ATTR of the application.
        environment: `RAYRTC_*` variables of the service that started the pool.
        sys_path: where the application's modules are found, before all else.
        worker_id: unique in the cluster.
        code_version: generation of the application's code.
        needs: what it was given. It serves the streams that need this.
    """

    def __init__(
        self,
        spec: str,
        environment: dict[str, str],
        sys_path: list[str],
        worker_id: str,
        code_version: str,
        needs: Needs,
    ) -> None:
        os.environ.update(of_this_machine(environment))
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        sys.path[:0] = [path for path in sys_path if path not in sys.path]
        self._spec = spec
        self._settings = Settings()
        configure(self._settings, worker_id=worker_id)
        faulthandler.register(STACKS_SIGNAL, file=2)
        sys.setswitchinterval(SWITCH_INTERVAL)
        keep_frame_memory()
        self._worker_id = worker_id
        self._code_version = code_version
        self._needs = needs
        self._started_at = int(time.time() * 1000)
        self._state = WorkerState.READY
        self._spare = False
        self._stopped = False
        self._starting: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def start(self) -> Lease:
        """Load the application and serve it. Called again, gives the same lease.

        Raises:
            StartError: the application cannot be loaded, or the worker's parts cannot be started.
        """
        if self._stopped:
            raise StartError("the worker has been stopped")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)
        return self._lease

    async def placed(self) -> str:
        """Answers as soon as Ray has given the worker a process, with the id of its node."""
        return str(ray.get_runtime_context().get_node_id())

    async def watch(self) -> None:
        """Never returns: who awaits it learns of this process's death."""
        await asyncio.Event().wait()

    async def ping(self) -> WorkerReport:
        """How the worker is; answered by its event loop."""
        return WorkerReport(
            lease=self._lease,
            calls=len(self._connections),
            sessions=self._connections.sessions,
            left_behind=left_behind(),
            needs=self._needs,
            pools=self._pools,
            stopped=self._stopped,
        )

    async def leave_to_others(self, spare: bool) -> None:
        """Take calls only if no other worker can, or like all others again."""
        self._spare = spare
        if self._serving is not None:
            self._lease = self._describe()
            self._renewal.renew_soon()

    async def drain(self, drain: Drain) -> None:
        """Take no new connections. Those that run go on until the deadline."""
        self._drain(drain)

    def _drain(self, drain: Drain) -> None:
        self._draining.ask(drain)
        if self._state is not WorkerState.DRAINING:
            self._state = WorkerState.DRAINING
            self._lease = self._describe()
            self._renewal.renew_soon()

    async def stop(self, reason: EndReason, timeout: float) -> None:
        """Close all connections within `timeout` seconds and withdraw the lease.

        The process is the caller's to end; it ends by itself when the caller does not.
        """
        if self._stopped:
            return
        self._stopped = True
        self._ending = asyncio.get_running_loop().call_later(
            timeout + FLUSH_TIMEOUT + END_DELAY, os._exit, 0
        )
        if self._serving is None:
            return
        self._drain(Drain(seconds=math.inf))
        try:
            await self._connections.close_all(reason, timeout)
            await self._outputs.flush(FLUSH_TIMEOUT)
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._renewal.stop()
                left = await self._cluster.registry.withdraw(self._worker_id, reason)
                await append_lost(self._cluster.pools.commands, self._settings, left)
        except Exception as error:
            # Redis away: the lease runs out by itself
            logger.warning("stopping without Redis: %s", error or type(error).__name__)
        self._serving.cancel()
        await asyncio.wait([self._serving], timeout=END_DELAY)
        self._watchdog.stop()
        tracing.stop()

    async def _start(self) -> None:
        try:
            target = load(self._spec)
            streams = streams_of(target, self._spec)
            pools = by_needs(streams, self._settings)
            streams = {name: streams[name] for name in pools.get(self._needs, ())}
        except ValueError as error:
            raise StartError(str(error)) from None
        except BaseException as error:
            raise StartError(f"{self._spec} cannot be loaded\n{_user_traceback(error)}") from None
        tracing.start("rayrtc-worker", service_instance_id=self._worker_id)
        # not at the top: the supervisor imports this module, and aiortc is 70 MB
        from workers import first_series
        from workers.connections import Connections
        from workers.server import WorkerServer

        settings = self._settings
        first_series.begin(streams.values())
        loop = asyncio.get_running_loop()
        try:
            secret = settings.secret()
            self._cluster = Cluster(settings, reaps=False)
            await self._cluster.open()
            self._outputs = OutputWriter(self._cluster.pools.commands, settings, self._cluster.time)
            self._udp_mux = await open_port(settings)
            self._connections = Connections(
                streams, settings, self._outputs, self._on_end, self._udp_mux
            )
            self._inputs = InputReader(self._cluster.pools.blocking, self._worker_id, settings)
            self._server = WorkerServer(self._connections, secret, self._metrics)
            port = await self._server.start(settings.worker_bind)
        except PortError as error:
            raise StartError(str(error)) from None
        except Exception as error:
            raise StartError(f"the worker cannot start\n{_user_traceback(error)}") from None
        for stream in streams.values():
            stream.bind(self._cluster, loop)
        context = ray.get_runtime_context()
        host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._meter = LoadMeter(
            dict(self._needs).get("CPU", settings.worker_cpus),
            settings.worker_memory_max << 20,
            settings.load_max,
        )
        self._lease = Lease(
            worker_id=self._worker_id,
            node=context.get_node_id(),
            host=host,
            address=f"http://{f'[{host}]' if ':' in host else host}:{port}",
            slots=settings.slots,
            streams=tuple(streams),
            pid=os.getpid(),
            started=self._started_at,
            code_version=self._code_version,
        )
        self._lease = self._describe()
        self._renewal: LeaseRenewal = LeaseRenewal(
            self._cluster.registry,
            self._connections,
            self._renewed_lease,
            self._drain,
            settings.lease_interval,
            settings.lease_ttl,
        )
        self._pools = tuple(pools)
        self._draining: Draining = Draining(self._connections)
        self._streams = streams
        calls.follow(loop)
        self._watchdog = Watchdog(loop, settings.hang_timeout, f"worker {self._worker_id}")
        self._watchdog.start()
        self._serving = loop.create_task(self._serve())
        self._serving.add_done_callback(self._served)
        # What was loaded stays: a full collection would look at all of it, which takes 30 ms, and
        # Python would put it off until the ended connections are a quarter of it.
        gc.collect()
        gc.freeze()
        logger.info(
            "worker %s serves %s at %s, media at UDP port %d",
            self._worker_id,
            ", ".join(streams) or "no stream",
            self._lease.address,
            self._udp_mux.port,
        )

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renewal.run(), name="lease")
                tasks.create_task(self._inputs.run(self._deliver), name="inputs")
                tasks.create_task(self._outputs.run(), name="outputs")
                tasks.create_task(self._meter.run(), name="load")
                tasks.create_task(self._draining.run(), name="draining")
        finally:
            await self._server.stop()
            self._udp_mux.close()
            for stream in self._streams.values():
                await stream.unbind()
            await self._cluster.aclose()

    def _deliver(self, entry: InputEntry) -> None:
        if (delay := self._cluster.time.since(entry.at)) is not None:
            INPUT_DELAY.observe(delay)
        self._connections.deliver(entry)

    def _served(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        # without lease, inputs or outputs the worker is of no use; the pool replaces it at once
        logger.critical("worker %s has failed", self._worker_id, exc_info=error)
        os._exit(1)

    def _renewed_lease(self) -> Lease:
        self._lease = self._describe()
        LOAD.set(self._lease.load)
        LAG.set(self._lease.lag)
        return self._lease

    def _describe(self) -> Lease:
        measured = self._meter.measure()
        state = self._state
        if state is WorkerState.READY and measured.busy:
            state = WorkerState.BUSY
        if state is not self._lease.state:
            logger.info("%s -> %s with a load of %.2f", self._lease.state, state, measured.load)
        return self._lease.model_copy(
            update={
                "state": state,
                "load": measured.load,
                "lag": measured.lag,
                "memory": self._meter.memory(),
                "spare": self._spare,
            }
        )

    def _metrics(self) -> bytes:
        SLOTS.set(self._settings.slots)
        ACCEPTING.set(self._state is WorkerState.READY)
        DRAIN_LEFT.set(self._draining.left)
        RENEWAL_FAILURES.set(self._renewal.failures)
        return prometheus_client.generate_latest()

    async def _on_end(self, connection: LiveConnection, reason: EndReason) -> None:
        await self._renewal.release(connection, reason)


def _user_traceback(error: BaseException) -> str:
    """The traceback without the frames of the import machinery and of this package."""
    report: Any = traceback.TracebackException.from_exception(error)
    report.stack = traceback.StackSummary.from_list(
        [
            frame
            for frame in report.stack
            if not frame.filename.startswith("<frozen importlib")
            and frame.filename not in (__file__, load.__code__.co_filename)
            and not frame.filename.endswith("importlib/__init__.py")
        ]
    )
    return "".join(report.format()).rstrip()
