"""What `rayrtc workers` leaves behind: nothing, nowhere, and on no network but the loopback."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rayrtc.free_port import free_port
from tests.e2e.stack import wait_until
from tests.workers.ray_pool import APP

ROOT = Path(__file__).parents[2]


class Workers:
    """`rayrtc workers` as a process, with a home directory of its own."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.app = directory / "app"
        self.app.mkdir()
        self.write_app()
        self.metrics_port = free_port()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY")},
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "RAYRTC_REDIS_URL": redis_url,
            "RAYRTC_CLUSTER_SECRET": "a secret for the tests only",
            "RAYRTC_WORKERS_MIN": "2",
            "RAYRTC_WORKERS_MAX": "2",
            "RAYRTC_STOP_TIMEOUT": "1",
            "RAYRTC_METRICS_PORT": str(self.metrics_port),
            "RAY_ADDRESS": "192.0.2.1:6379",  # must be ignored
        }
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[psutil.Process] = set()

    def write_app(self, name: str = "silent", broken: str = "") -> None:
        (self.app / "an_app.py").write_text(APP.format(name=name, broken=broken))

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rayrtc.cli", "workers", "an_app:stream", "--events"],
                cwd=self.app,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith('{"event"')]
        return [event for event in parsed if event["event"] == kind]

    def until(self, kind: str, count: int = 1, timeout: float = 90) -> dict[str, Any]:
        """The newest event of a kind, once there are `count`."""
        try:
            wait_until(lambda: len(self.events(kind)) >= count, timeout, kind)
        except AssertionError:
            print(self.log.read_text(errors="replace")[-5000:])
            raise
        self.observe()
        return self.events(kind)[-1]

    def observe(self) -> list[psutil.Process]:
        """All processes below the service; they are remembered."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).children(recursive=True)
        self.seen.update(found)
        return found

    def left(self) -> list[psutil.Process]:
        """What runs still of all that was seen."""
        running = []
        for process in self.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process)
        return running

    def directory(self) -> Path | None:
        """The temporary directory of its Ray, as the raylet's command line has it."""
        for process in self.observe():
            with contextlib.suppress(psutil.Error):
                for argument in process.cmdline():
                    if argument.startswith("--temp_dir="):
                        return Path(argument.partition("=")[2]).parent
        return None


@pytest.fixture
def workers(tmp_path: Path, redis_url: str) -> Iterator[Workers]:
    workers = Workers(tmp_path, redis_url)
    workers.start()
    yield workers
    assert workers.process is not None
    if workers.process.poll() is None:
        workers.observe()
        workers.process.kill()
        workers.process.wait()
    for process in workers.left():
        process.kill()


@pytest.mark.e2e
def test_from_start_to_stop(workers: Workers) -> None:
    assert workers.until("ready")["workers"] == 2
    listening = [
        connection.laddr.ip
        for process in workers.observe()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert not list(workers.home.iterdir()), "Ray has left a token"
    directory = workers.directory()
    assert directory is not None
    assert directory.stat().st_mode & 0o077 == 0, "others can reach Ray's sockets"
    metrics = httpx.get(f"http://127.0.0.1:{workers.metrics_port}/metrics").text
    assert "rayrtc_pool_workers_wanted 2.0" in metrics
    assert metrics.count("\nrayrtc_worker_slots{") == 2

    assert workers.process is not None
    workers.write_app(broken="1 / 0")
    workers.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in str(workers.events("progress")), 60, "refused reload")
    workers.write_app()
    workers.process.send_signal(signal.SIGHUP)
    assert workers.until("reloaded")["workers"] == 2

    workers.observe()
    workers.process.terminate()
    assert workers.process.wait(20) == 0
    assert not workers.left()
    assert not directory.exists()


@pytest.mark.e2e
def test_sigkill_ends_ray_too(workers: Workers) -> None:
    """All but Ray's two agents, which try for a minute to report that their raylet is gone.

    Under `rayrtc dev` the guardian ends those too.
    """
    workers.until("ready")
    directory = workers.directory()
    assert directory is not None
    assert workers.process is not None
    workers.process.kill()
    workers.process.wait()

    def others() -> list[str]:
        names = []
        for process in workers.left():
            with contextlib.suppress(psutil.Error):  # it ended in between
                names.append(" ".join(process.cmdline()))
        return [name for name in names if "DashboardAgent" not in name and "EnvAgent" not in name]

    wait_until(lambda: not others(), 30, "the end of all processes but Ray's agents")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.e2e
def test_an_application_that_cannot_be_loaded_ends_the_service(
    workers: Workers,
) -> None:
    # broken before any worker has been started: Ray takes seconds
    workers.write_app(broken="import a_module_that_is_not_there")
    error = workers.until("error")
    assert "a_module_that_is_not_there" in error["text"]
    assert workers.process is not None
    assert workers.process.wait(20) != 0
    assert not workers.left()
