"""The process between `rayrtc dev` and its services. It starts them and keeps them running, and
ends every process below it and the temporary directory when the command ends, however that ends.

It reads commands from stdin (`stop`, `kill`, `reload`; the end of the file means that the command
is gone) and writes events (`rayrtc.events`) to stdout. Run as `python -m rayrtc.guardian SPEC`.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rayrtc import events
from rayrtc.cluster.redis import UNREACHABLE, RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.descendants import MARK, Descendants, adopt_orphans, reap_orphans
from rayrtc.embedded_redis import EmbeddedRedis, NoServer
from rayrtc.service_process import ServiceFailed, ServiceProcess, inherited, python_command
from rayrtc.settings import Settings, get_settings

logger = logging.getLogger(__name__)

KILL_TIMEOUT = 10.0
"""Seconds for SIGKILL to take effect on everything that is left."""
REAP_AGAIN = 0.1
"""Seconds after which a child that asyncio has to reap first is looked at again."""
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class StopAsked(Exception):
    """The command said so, or is gone."""


class Guardian:
    """Owns the session: its directory, its services and whatever these started."""

    def __init__(self, spec: str, settings: Settings, reload: bool) -> None:
        self._spec = spec
        self._settings = settings
        self._reload = reload
        # Short: Ray puts Unix sockets into it, whose paths end at 107 bytes (103 on macOS).
        self._directory = Path(tempfile.mkdtemp(prefix="rayrtc-", dir="/tmp"))
        self._descendants = Descendants(self._directory.name)
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._services: list[ServiceProcess] = []

    async def run(self) -> int:
        """Start everything, keep it running until told to stop, end everything; the exit status."""
        events.write("session", directory=str(self._directory))
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sig, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        obeying = asyncio.create_task(self._obey(), name="commands")
        status = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._wait_for_stop(), name="stop")
                group.create_task(self._start(group), name="start")
        except* StopAsked:
            pass
        except* (ServiceFailed, NoServer) as failures:
            events.write("error", text="; ".join(str(one) for one in failures.exceptions))
            status = 1
        finally:
            await self._end()
            obeying.cancel()
        return status

    async def _start(self, group: asyncio.TaskGroup) -> None:
        started = time.monotonic()
        redis = EmbeddedRedis(self._directory)
        await self._keep(group, self._redis(redis)).first_ready.wait()
        await self._begin(redis.url)
        workers = self._keep(group, self._workers(redis.url))
        control_plane = self._keep(group, self._control_plane(redis.url))
        await workers.first_ready.wait()
        await control_plane.first_ready.wait()
        self._descendants.observe()
        seconds = time.monotonic() - started
        events.write("ready", seconds=seconds, redis=redis.url, **workers.facts)

    async def _begin(self, redis_url: str) -> None:
        """Nobody has called before, so nobody need wait for workers to return their calls."""
        settings = self._settings.model_copy(update={"redis_url": redis_url})
        pools = RedisPools(settings)
        try:
            await Registry(pools.commands, settings).begin()
        except UNREACHABLE as error:
            logger.warning("the first call will wait: %s", error)
        finally:
            await pools.aclose()

    def _keep(self, group: asyncio.TaskGroup, service: ServiceProcess) -> ServiceProcess:
        self._services.append(service)
        group.create_task(service.keep(), name=service.name)
        return service

    def _redis(self, redis: EmbeddedRedis) -> ServiceProcess:
        return ServiceProcess(
            "Redis",
            redis.command,
            inherited(**{MARK: self._directory.name}),
            is_ready=redis.answers,
            start_timeout=10.0,
            stop_timeout=2.0,
            death_signal=signal.SIGKILL,  # it has nothing to save
        )

    def _environment(self, redis_url: str) -> dict[str, str]:
        ray = self._directory / "ray"
        ray.mkdir(exist_ok=True)
        return inherited(
            RAYRTC_REDIS_URL=redis_url, RAYRTC_RAY_TMP=str(ray), **{MARK: self._directory.name}
        )

    def _workers(self, redis_url: str) -> ServiceProcess:
        return ServiceProcess(
            "workers",
            python_command("rayrtc.cli", "workers", self._spec, "--events"),
            self._environment(redis_url),
            start_timeout=self._settings.worker_start_timeout + 60,
            stop_timeout=self._settings.stop_timeout + 15,
            stop_signal=signal.SIGINT,  # at once: SIGTERM would wait for calls
            death_signal=signal.SIGINT,
            after_end=self._kill_strays,
        )

    def _control_plane(self, redis_url: str) -> ServiceProcess:
        return ServiceProcess(
            "control plane",
            python_command("rayrtc.cli", "control-plane", self._spec, "--events"),
            self._environment(redis_url),
            is_ready=lambda: _get_ready(self._settings.host, self._settings.port),
            start_timeout=self._settings.worker_start_timeout + 60,
            stop_timeout=self._settings.worker_timeout + 2,
            await_change=self._reload,
        )

    def _kill_strays(self) -> None:
        """End what a dead service left behind: a Ray without its driver, for example."""
        self._descendants.kill(KILL_TIMEOUT, keep=self._own())

    def _own(self) -> frozenset[int]:
        return frozenset(service.pid for service in self._services if service.pid is not None)

    def _reap(self) -> None:
        if reap_orphans(self._own()):
            asyncio.get_running_loop().call_later(REAP_AGAIN, self._reap)

    async def _wait_for_stop(self) -> None:
        await self._stop.wait()
        raise StopAsked

    async def _obey(self) -> None:
        """Carry out the commands; the end of the file is the last one."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            match line.strip():
                case b"reload":
                    self._reload_services()
                case b"kill":
                    self._at_once.set()
                    self._stop.set()
                case _:
                    self._stop.set()
        self._stop.set()

    def _reload_services(self) -> None:
        for service in self._services:
            if service.name == "workers":
                service.send(signal.SIGHUP)
            elif service.name == "control plane":
                service.reload(signal.SIGTERM)

    async def _end(self) -> None:
        self._descendants.observe()
        # The control plane first: it must not hand calls to workers that are leaving.
        for service in sorted(self._services, key=_stop_order):
            await service.stop(self._at_once)
        for process in self._descendants.kill(KILL_TIMEOUT):
            events.write("error", text=f"process {process.pid} did not end")
        shutil.rmtree(self._directory, ignore_errors=True)


def _stop_order(service: ServiceProcess) -> int:
    return ("control plane", "workers", "Redis").index(service.name)


async def _get_ready(host: str, port: int) -> bool:
    """Whether `GET /readyz` of the control plane is answered with 200 within 2 s."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status


def main() -> None:
    """Entry point: `python -m rayrtc.guardian SPEC`; the settings come from the environment."""
    # The sweep at the end takes exit statuses that asyncio would like to have had.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    adopt_orphans()
    guardian = Guardian(sys.argv[1], get_settings(), reload="--reload" in sys.argv[2:])
    status = asyncio.run(guardian.run())
    sys.stdout.flush()
    os._exit(status)  # threads that wait for killed children would delay it


if __name__ == "__main__":
    main()
