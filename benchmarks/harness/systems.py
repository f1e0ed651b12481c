"""The systems under test: started as a user would, on loopback, each in its environment."""

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from benchmarks.harness.environments import ROOT, python_of
from benchmarks.harness.process_tree import Roots
from rayrtc.descendants import die_with_parent
from rayrtc.free_port import free_port
from tests.e2e.stack import Stack, wait_until

START_TIMEOUT = 90.0
STOP_TIMEOUT = 20.0
SLOTS = 128
"""Of a worker, where a benchmark is not about the default."""


class System(ABC):
    """One system that serves the workloads.

    Attributes:
        name: as in tables.
        records: directory for what its handlers measure themselves.
        url: where its streams are mounted.
    """

    name: str
    media_roles: tuple[str, ...]
    """Roles of the processes that handle media."""

    def __init__(self) -> None:
        self.records = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
        self.url = ""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """End all of its processes."""

    @abstractmethod
    def roots(self) -> Roots:
        """The processes that were started, by role."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and remove its files."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.records, ignore_errors=True)


class Server(System):
    """A system of one process.

    Args:
        environment: name of its virtual environment.
        command: module and arguments for its interpreter; `{port}` is filled in.
    """

    media_roles = ("server",)
    environment: str
    command: tuple[str, ...]

    def start(self) -> None:
        port = free_port()
        self.log = self.records / "server.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_SYSTEM": self.name,
            "BENCH_RECORDS": str(self.records),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(python_of(self.environment)),
                    *("-m", *(part.format(port=port) for part in self.command)),
                ],
                cwd=self.records,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self.url = f"http://127.0.0.1:{port}"
        wait_until(self._is_ready, START_TIMEOUT, self.name)

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        return httpx.get(self.url + "/readyz", timeout=5).status_code == 200

    def stop(self) -> None:
        if not hasattr(self, "process") or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def roots(self) -> Roots:
        return {"server": self.process.pid}


class FastRTC(Server):
    """FastRTC under uvicorn, as its documentation says."""

    name = "fastrtc"
    environment = "fastrtc"
    command = (
        *("uvicorn", "benchmarks.servers.handler_app:app", "--host", "127.0.0.1"),
        *("--port", "{port}", "--log-level", "warning", "--no-access-log"),
        *("--timeout-graceful-shutdown", "3"),
    )


class Aiortc(Server):
    """aiortc behind aiohttp."""

    name = "aiortc"
    environment = "aiortc"
    command = ("benchmarks.servers.aiortc_app", "--port", "{port}")


class Rayrtc(System):
    """Redis, a Ray with its workers, and one replica of the control plane.

    Args:
        workers: in the pool.
        slots: of each worker; None leaves the default.
        lag: whether workers record how late their event loops run.
    """

    name = "rayrtc"
    media_roles = ("worker",)

    def __init__(self, workers: int = 1, slots: int | None = SLOTS, lag: bool = False) -> None:
        super().__init__()
        self.workers = workers
        self.stack = Stack("benchmarks.servers.handler_app:app", workers=workers)
        self.stack.env.update(
            RAYRTC_LOG_LEVEL="warning",
            BENCH_SYSTEM=self.name,
            BENCH_RECORDS=str(self.records),
        )
        if slots is None:
            del self.stack.env["RAYRTC_SLOTS"]
        else:
            self.stack.env["RAYRTC_SLOTS"] = str(slots)
        if lag:
            self.stack.env["BENCH_LAG"] = "1"

    def start(self) -> None:
        self.stack.start_redis()
        self.stack.start_workers()
        self.url = self.stack.start_replica("a")
        self.stack.wait_ready(START_TIMEOUT)

    def stop(self) -> None:
        self.stack.stop()

    def roots(self) -> Roots:
        processes = self.stack.processes
        return {
            "control plane": processes["a"].pid,
            "redis": processes["redis"].pid,
            "node service": processes["workers"].pid,
        }


SYSTEMS: dict[str, type[System]] = {
    "rayrtc": Rayrtc,
    "fastrtc": FastRTC,
    "aiortc": Aiortc,
}
