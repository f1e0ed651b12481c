"""Broken, a benchmark would blame one part of the system for the CPU of another."""

import subprocess
import sys
import time

import pytest

from benchmarks.harness.process_tree import (
    Sample,
    Usage,
    cpu_between,
    ended_between,
    role_of,
    sample,
    total,
)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("ray::MediaWorker.run", "worker"),
        ("ray::Supervisor", "supervisor"),
        ("ray::IDLE", "ray"),
        ("ray::DashboardAgent", "ray"),
        ("/v/lib/python3.11/site-packages/ray/core/src/ray/raylet/raylet --port=1", "raylet"),
        ("/v/site-packages/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "gcs_server"),
        ("/v/bin/python -u /v/site-packages/ray/dashboard/agent.py", "ray"),
        ("/v/bin/python -c from rayrtc.cli import main", "node service"),
    ],
)
def test_each_process_has_its_role(command: str, role: str) -> None:
    assert role_of(command, "node service") == role


def usage(role: str, cpu: float) -> Usage:
    return Usage(role, cpu, 1000, 500)


def test_cpu_counts_new_processes_and_tells_of_those_that_ended() -> None:
    before = Sample({(1, 0.0): usage("ray", 10.0), (2, 0.0): usage("worker", 4.0)})
    after = Sample({(1, 0.0): usage("ray", 10.5), (3, 9.0): usage("worker", 0.25)})
    assert cpu_between(before, after) == {"ray": 0.5, "worker": 0.25}
    assert ended_between(before, after) == 1


def test_the_total_can_leave_roles_out() -> None:
    assert total({"worker": 3.0, "ray": 1.0, "redis": 0.5}, without=["worker"]) == 1.5


def test_what_a_child_burns_is_seen() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", burn])
    try:
        before = sample({"server": process.pid})
        deadline = time.monotonic() + 20
        used = 0.0
        while used < 0.2 and time.monotonic() < deadline:
            time.sleep(0.1)
            after = sample({"server": process.pid})
            used = cpu_between(before, after)["server"]
        assert 0.2 <= used < 1.0
        assert after.memory()["server"] > 1_000_000
    finally:
        process.kill()
        process.wait(10)
