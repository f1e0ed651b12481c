"""A whole deployment on this machine: Redis, workers on a Ray of their own, two replicas."""

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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from rayrtc.free_port import free_port
from rayrtc.settings import Settings
from rayrtc.status import read_status

ROOT = Path(__file__).parents[2]
RAYRTC = [sys.executable, "-c", "from rayrtc.cli import main; main()"]


def wait_until(condition: Callable[[], Any], timeout: float, what: str, every: float = 0.1) -> Any:
    """The first true value of `condition`; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if value := condition():
                return value
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(every)


def is_ready(url: str) -> bool:
    return httpx.get(url + "/readyz").status_code == 200


class Stack:
    """Starts and ends the services as processes, as an operator would. Logs are under `logs`."""

    def __init__(self, app: str = "tests.e2e.app:app", workers: int = 2, slots: int = 64) -> None:
        self.app = app
        self.workers = workers
        self.directory = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        (self.directory / "ray").mkdir()
        self.redis_port = free_port()
        self.metrics_port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.replicas: dict[str, str] = {}
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAYRTC_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "RAYRTC_CLUSTER_SECRET": "a secret for the tests only",
            "RAYRTC_ICE_ADDRESSES": "127.0.0.1",
            "RAYRTC_WORKERS_MIN": str(workers),
            "RAYRTC_WORKERS_MAX": str(workers),
            "RAYRTC_SLOTS": str(slots),
            "RAYRTC_METRICS_PORT": str(self.metrics_port),
            "RAYRTC_RAY_TMP": str(self.directory / "ray"),
            "RAYRTC_WORKER_BIND": "127.0.0.1",
            "RAYRTC_LOG_FORMAT": "json",
            # the machine that runs the tests may be as busy as it likes
            "RAYRTC_LOAD_MAX": "1",
            # what a failed test leaves is not waited for
            "RAYRTC_DRAIN_TIMEOUT": "0",
            # a handler that allocates without end is not to fill the machine that runs the tests
            "RAYRTC_WORKER_MEMORY_LIMIT": "1000",
            # a client that never connects holds its slot this long: the tests wait for it
            "RAYRTC_CONNECT_TIMEOUT": "10",
        }

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes[name] = process
        return process

    def start_redis(self) -> None:
        from rayrtc.embedded_redis import find_server

        self._spawn(
            "redis",
            [
                *(str(find_server()), "--port", str(self.redis_port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
            ],
        )
        wait_until(self._redis_answers, 10, "Redis")

    def _redis_answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.redis_port)):
            return True
        return False

    def start_workers(self) -> None:
        self._spawn("workers", [*RAYRTC, "workers", self.app])

    def start_replica(self, name: str, app: str | None = None, port: int | None = None) -> str:
        """Start a control-plane replica; returns its base URL."""
        port = port or free_port()
        self._spawn(name, [*RAYRTC, "control-plane", app or self.app, "--port", str(port)])
        self.replicas[name] = f"http://127.0.0.1:{port}"
        return self.replicas[name]

    def start(self) -> None:
        self.start_redis()
        self.start_workers()
        for name in ("a", "b"):
            self.start_replica(name)
        self.wait_ready()

    def wait_ready(self, timeout: float = 180) -> None:
        """Until every replica is ready and the pool is full."""
        for name, url in self.replicas.items():
            wait_until(partial(self._running, partial(is_ready, url)), timeout, name)
        wait_until(partial(self._running, self._is_full), timeout, "full pool")

    def _running(self, condition: Callable[[], bool]) -> bool:
        """`condition`, while no service has ended."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        assert not ended, f"ended: {ended}"
        return condition()

    def _is_full(self) -> bool:
        return len(self.status()["workers"]) == self.workers

    def status(self) -> dict[str, Any]:
        """What `rayrtc status --json` prints."""
        settings = Settings(redis_url=f"redis://127.0.0.1:{self.redis_port}/0")
        return asyncio.run(read_status(settings)).to_json()

    def metric(self, replica: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples at a replica whose labels fit."""
        from prometheus_client.parser import text_string_to_metric_families

        text = httpx.get(self.replicas[replica] + "/metrics").text
        samples = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert samples, f"no metric {name} {labels}"
        return sum(sample.value for sample in samples)

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send `sig` to a service and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(sig)
        process.wait(30)
        self.replicas.pop(name, None)

    def stop(self) -> None:
        """End everything, workers before Redis."""
        for name in [n for n in self.processes if n != "redis"]:
            self.processes[name].terminate()
        for name in [n for n in self.processes if n != "redis"]:
            process = self.processes.pop(name)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        if "redis" in self.processes:
            self.kill("redis")
        shutil.rmtree(self.directory, ignore_errors=True)
