"""A cluster of three hosts: a head (Redis, Ray's head, two replicas) and two worker nodes."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import redis

from rayrtc.cluster.models import ConnectionRecord, WorkerStatus
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.embedded_redis import find_server
from rayrtc.settings import Settings
from tests.e2e.stack import RAYRTC, ROOT
from tests.network.hosts import Host, Network
from workers.ray_node import FAULT_DETECTION

HOSTS = ("head", "one", "two", "client")
NODES = ("one", "two")
REPLICAS = {"a": 8001, "b": 8002}
REDIS_PORT, STANDBY_PORT, RAY_REDIS_PORT, RAY_PORT = 6379, 6391, 6390, 6380
START_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0


class Cluster:
    """Starts and ends the services, as an operator would.

    Its methods are to be called on the host "client" (`Host.entered`): it reaches the others there.
    Logs are under `logs`, one file for each service.

    Args:
        app: what it runs, as MODULE:ATTR.
        nodes: environment of each worker node alone, over `environment`, which is that of all.
    """

    def __init__(
        self,
        network: Network,
        slots: int = 32,
        app: str = "tests.network.app:app",
        nodes: Mapping[str, Mapping[str, str]] | None = None,
        **environment: str,
    ) -> None:
        self.network = network
        self.app = app
        self.nodes = nodes or {}
        self.directory = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        head = network["head"].address
        self.redis_url = f"redis://{head}:{REDIS_PORT}/0"
        self.replicas = {name: f"http://{head}:{port}" for name, port in REPLICAS.items()}
        # other tests of this process leave Ray's settings behind
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYRTC_"))}
        self.env = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "RAYRTC_REDIS_URL": self.redis_url,
            "RAYRTC_CLUSTER_SECRET": "a secret for the tests only",
            "RAYRTC_RAY_ADDRESS": f"{head}:{RAY_PORT}",
            "RAYRTC_WORKERS_MIN": "2",
            "RAYRTC_WORKERS_MAX": "4",
            "RAYRTC_SLOTS": str(slots),
            "RAYRTC_LOG_FORMAT": "json",
            "RAYRTC_DRAIN_TIMEOUT": "60",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray keeps its state there, so that its head can come back
            "RAY_REDIS_ADDRESS": f"{head}:{RAY_REDIS_PORT}",
            **FAULT_DETECTION,
            **environment,
        }
        settings = Settings(redis_url=self.redis_url)
        self._pools = RedisPools(settings)
        self._registry = Registry(self._pools.commands, settings)

    def log(self, name: str) -> str:
        """What a service has printed so far."""
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def _spawn(self, name: str, host: Host, command: list[str], **env: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.services[name] = host.spawn(command, log, {**self.env, **env}, ROOT)

    def start_redis(self, empty: bool = True) -> None:
        """The relay's Redis, empty or with its last snapshot."""
        if empty:
            (self.directory / "dump.rdb").unlink(missing_ok=True)
        self._start_redis("redis", REDIS_PORT)

    def start_standby(self) -> redis.Redis:
        """A replica of the relay's Redis, once it has all that this has; a connection to it."""
        head = self.network["head"].address
        self._start_redis("standby", STANDBY_PORT, "--replicaof", f"{head} {REDIS_PORT}")
        standby = redis.Redis(host=head, port=STANDBY_PORT, decode_responses=True)
        self._until(lambda: standby.info()["master_link_status"] == "up", 30, "the replica")
        return standby

    def fail_over(self, back: bool = False) -> None:
        """Lead what connects to the relay's Redis to its standby, as a virtual address does.

        Args:
            back: end that.
        """
        way = ("-p", "tcp", "-d", self.network["head"].address, "--dport", str(REDIS_PORT))
        for chain in ("PREROUTING", "OUTPUT"):
            rule = (chain, *way, "-j", "REDIRECT", "--to-ports", str(STANDBY_PORT))
            self.network["head"].run("iptables", "-t", "nat", "-D" if back else "-A", *rule)

    def _start_redis(self, name: str, port: int, *options: str) -> None:
        command = [str(find_server()), "--port", str(port), "--bind", "0.0.0.0", *options]
        command += ["--protected-mode", "no", "--save", "", "--dir", str(self.directory)]
        self._spawn(name, self.network["head"], command)
        head = self.network["head"].address
        self._until(lambda: listens(head, port), 10, name)

    def start_ray_head(self) -> None:
        """Ray's head, which takes no work."""
        head = self.network["head"]
        # `ray start` looks for a running Ray among the processes, and would find the nodes'
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command += [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += [f"--node-ip-address={head.address}", f"--port={RAY_PORT}", "--num-cpus=0"]
        command += ["--include-dashboard=false", "--include-log-monitor=false"]
        command += ["--object-store-memory=80000000", f"--temp-dir={self.directory}/r"]
        self._spawn("ray-head", head, command)
        self._until(lambda: listens(head.address, RAY_PORT), 30, "Ray's head")

    def start_workers(self, node: str) -> None:
        """`rayrtc workers` on a node."""
        command = [*RAYRTC, "workers", self.app]
        self._spawn(node, self.network[node], command, **self.nodes.get(node, {}))

    def start_replica(self, name: str) -> None:
        """`rayrtc control-plane` on the head."""
        head = self.network["head"]
        command = [*RAYRTC, "control-plane", self.app]
        command += ["--host", head.address, "--port", str(REPLICAS[name])]
        self._spawn(name, head, command)

    def start(self) -> None:
        """Everything, until calls can be made."""
        self.start_redis()
        self._start_redis("ray-redis", RAY_REDIS_PORT)
        self.start_ray_head()
        for node in NODES:
            self.start_workers(node)
            # Ray's nodes on one file system must not be made at the same moment
            self._until(lambda n=node: "starting the pool" in self.log(n), START_TIMEOUT, node)
        for name in REPLICAS:
            self.start_replica(name)
        for name, url in self.replicas.items():
            self._until(lambda u=url: is_ready(u), START_TIMEOUT, f"replica {name}")

    def _until(self, condition: Callable[[], Any], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            for name, process in self.services.items():
                assert process.poll() is None, f"{name} has ended:\n{self.log(name)[-2000:]}"
            assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
            time.sleep(0.1)

    async def workers(self) -> list[WorkerStatus]:
        """As the registry has them; none while Redis is away."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                return await self._registry.workers()
        return []

    async def connections(self) -> list[ConnectionRecord]:
        """As the registry has them; none while Redis is away."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                return await self._registry.connections()
        return []

    async def whole(self, timeout: float = START_TIMEOUT) -> None:
        """Until each node has a worker that takes calls, and both replicas are ready."""
        async with asyncio.timeout(timeout):
            while True:
                workers = await self.workers()
                hosts = {worker.host for worker in workers if worker.state == "ready"}
                if hosts == {self.network[node].address for node in NODES} and all(
                    [await asyncio.to_thread(is_ready, url) for url in self.replicas.values()]
                ):
                    return
                await asyncio.sleep(0.1)

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service."""
        self.services[name].send_signal(sig)

    async def ended(self, name: str, timeout: float = STOP_TIMEOUT) -> int:
        """The exit status of a service, once it has ended."""
        return await asyncio.to_thread(self.services.pop(name).wait, timeout)

    async def stop(self) -> None:
        """End everything."""
        await self._pools.aclose()
        for name in [n for n in self.services if "redis" not in n and n != "ray-head"]:
            self.kill(name, signal.SIGINT)
        for name in [n for n in self.services if "redis" not in n and n != "ray-head"]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await self.ended(name, 30)
        for name in list(self.services):
            self.kill(name)
            await self.ended(name)
        for host in self.network.hosts.values():
            host.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url + "/readyz", timeout=3).status_code == 200
    return False


def process_of(pid: int) -> bool:
    """Whether a process is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
