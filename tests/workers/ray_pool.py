"""A pool on the tests' Ray: a supervisor of its own namespace, and what tests ask of it."""

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayrtc.cluster.models import WorkerStatus
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.pool import PoolStatus

APP = """
from rayrtc import AsyncStreamHandler, Stream

class Silent(AsyncStreamHandler):
    def copy(self):
        return Silent()
    async def receive(self, frame):
        pass
    async def emit(self):
        return None

{broken}
stream = Stream(Silent(), modality="audio", concurrency_limit=100, name="{name}")
"""


class RayPool:
    """Starts a supervisor for an application in `directory` and talks to it.

    `environment` is put beside the settings that workers get, `changes` are of those.
    """

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        environment: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self.directory = directory
        self.environment = dict(environment or {})
        self.module = f"app_{secrets.token_hex(4)}"
        self.write_app()
        options: dict[str, Any] = {
            "cluster": f"test-{secrets.token_hex(4)}",
            "redis_url": redis_url,
            "cluster_secret": "a secret for the tests only",
            "worker_bind": "127.0.0.1",
            "ice_addresses": "127.0.0.1",
            "workers_min": 1,
            "workers_max": 2,
            "stop_timeout": 1,
            "drain_timeout": 1,
            "worker_start_timeout": 60,
        }
        self.settings = Settings(**{**options, **changes})
        self.pools = RedisPools(self.settings)
        self.registry = Registry(self.pools.commands, self.settings)
        self.supervisor: Any = None

    def write_app(self, name: str = "silent", broken: str = "") -> None:
        """Write the application's module, or change it."""
        (self.directory / f"{self.module}.py").write_text(APP.format(name=name, broken=broken))

    async def start(self) -> None:
        import ray

        from workers.supervisor import NAME, Supervisor

        actor_class: Any = ray.remote(Supervisor)
        self.supervisor = actor_class.options(
            name=NAME,
            namespace=self.settings.cluster,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
        ).remote(
            f"{self.module}:stream",
            {**self.environment, **self.settings.environment()},
            [str(self.directory)],
            "1",
        )

    async def stop(self) -> None:
        import ray

        async with asyncio.timeout(30):
            await self.supervisor.shutdown.remote()
        ray.kill(self.supervisor)
        await self.pools.aclose()

    async def status(self) -> PoolStatus:
        async with asyncio.timeout(20):
            status: PoolStatus = await self.supervisor.status.remote()
        return status

    async def until(
        self, condition: Callable[[PoolStatus], bool], timeout: float = 60
    ) -> PoolStatus:
        """The first status that fits."""
        from ray.exceptions import RayError

        status = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        status = await self.status()
                    except RayError:
                        await asyncio.sleep(0.1)
                        continue
                    if condition(status):
                        return status
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"still {status}") from None

    async def workers(self, count: int = 1, timeout: float = 20) -> list[WorkerStatus]:
        """The leases in the registry, once there are `count`."""
        async with asyncio.timeout(timeout):
            while len(workers := await self.registry.workers()) != count:
                await asyncio.sleep(0.1)
        return workers


def kill(pid: int, sig: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that the test's pool started."""
    os.kill(pid, sig)
