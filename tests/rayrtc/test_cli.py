"""What a user reads when the command is used well, and when it is not: one line, no traceback."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from rayrtc import __version__
from rayrtc.cluster.models import Lease
from rayrtc.cluster.registry import Registry
from rayrtc.errors import NoWorkerAvailable
from rayrtc.free_port import free_port
from rayrtc.redis_url import masked
from rayrtc.settings import Settings

ROOT = Path(__file__).parents[2]
SECRET = "a secret for the tests only"


def rayrtc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAYRTC_")}
    return subprocess.run(
        [sys.executable, "-m", "rayrtc.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**inherited, **environment},
        check=False,
    )


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_version() -> None:
    assert rayrtc("--version").stdout == f"rayrtc {__version__}\n"


def test_config_shows_what_is_set_and_hides_secrets() -> None:
    done = rayrtc(
        "config",
        RAYRTC_SLOTS="5",
        RAYRTC_CLUSTER_SECRET=SECRET,
        RAYRTC_REDIS_URL="redis://user:hidden@h:1/0",
        RAYRTC_TURN_URLS="turn:turn.test",
        RAYRTC_TURN_SECRET="hidden too",
    )
    assert done.returncode == 0
    assert "RAYRTC_SLOTS=5  (default 8)" in done.stdout
    assert "RAYRTC_REDIS_URL=redis://user:********@h:1/0" in done.stdout
    assert "RAYRTC_CLUSTER_SECRET=********" in done.stdout
    assert "RAYRTC_TURN_SECRET=********" in done.stdout
    for name in Settings.model_fields:
        assert f"RAYRTC_{name.upper()}=" in done.stdout
    assert "hidden" not in done.stdout
    assert SECRET not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (("dev", "examples.echo"), {}, "'examples.echo' is not of the form MODULE:ATTR"),
        (("dev", "no.such:thing"), {}, "there is no module 'no.such'"),
        (("dev", "examples.echo:stream"), {"RAYRTC_SLOTS": "x"}, "RAYRTC_SLOTS: "),
        (("control-plane", "examples.echo:stream"), {}, "RAYRTC_CLUSTER_SECRET is not set"),
        (("workers", "examples.echo:stream"), {}, "RAYRTC_CLUSTER_SECRET is not set"),
        (
            ("workers", "examples.echo:stream"),
            {"RAYRTC_CLUSTER_SECRET_FILE": "/nowhere/secret"},
            "RAYRTC_CLUSTER_SECRET_FILE: /nowhere/secret cannot be read: No such file",
        ),
        (
            ("control-plane", "examples.echo:nothing"),
            {"RAYRTC_CLUSTER_SECRET": SECRET},
            "has no attribute 'nothing'",
        ),
        (
            ("workers", "examples.nothing:stream"),
            {"RAYRTC_CLUSTER_SECRET": SECRET},
            "there is no module 'examples.nothing'",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], environment: dict[str, str], text: str
) -> None:
    done = rayrtc(*arguments, **environment)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["dev", "control-plane"])
def test_a_port_in_use_is_said_before_anything_starts(command: str, taken: int) -> None:
    done = rayrtc(
        command, "examples.echo:stream", "--port", str(taken), RAYRTC_CLUSTER_SECRET=SECRET
    )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {taken}: Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_an_error_in_the_users_module_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import math\n\nx = math.nothing\n")
    (tmp_path / "unfinished.py").write_text("def f(:\n")
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "RAYRTC_CLUSTER_SECRET": SECRET}
    done = rayrtc("control-plane", "broken:stream", **path)
    assert done.returncode == 2
    assert "broken:stream cannot be loaded: AttributeError" in done.stderr
    assert 'broken.py", line 3' in done.stderr
    assert "rayrtc/" not in done.stderr
    done = rayrtc("control-plane", "unfinished:stream", **path)
    assert "unfinished.py, line 1: " in done.stderr
    assert "Traceback" not in done.stderr


def test_status_without_redis_says_so_and_shows_no_password() -> None:
    done = rayrtc("status", "--redis-url", f"redis://:hidden@127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert "Redis at redis://:********@127.0.0.1" in done.stderr
    assert "hidden" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_status_lists_workers_and_connections(redis_url: str) -> None:
    settings = Settings(
        redis_url=redis_url, lease_interval=0.05, lease_ttl=60, reservation_ttl=60, cluster="cli"
    )
    lease = Lease(
        worker_id="w1",
        node="0123456789abcdef",
        host="127.0.0.1",
        address="http://127.0.0.1:1",
        slots=4,
        streams=("default",),
        load=0.25,
        memory=100 << 20,
    )
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        registry = Registry(redis, settings)
        await registry.renew(lease, [])
        async with asyncio.timeout(10):
            while True:
                try:
                    await registry.reserve("default", 10, "caller-1")
                    break
                except NoWorkerAvailable:  # a Redis that was empty a moment ago
                    await asyncio.sleep(0.05)
    environment = {"RAYRTC_REDIS_URL": redis_url, "RAYRTC_CLUSTER": "cli"}
    data = json.loads(rayrtc("status", "--json", **environment).stdout)
    assert data["cluster"] == "cli"
    assert data["workers"][0]["worker_id"] == "w1"
    assert data["workers"][0]["used"] + data["workers"][0]["reserved"] == 1
    assert data["connections"][0]["connection_id"] == "caller-1"
    assert data["connections"][0]["state"] == "reserved"
    text = rayrtc("status", **environment).stdout
    for word in ("w1", "01234567", "127.0.0.1:1", "0.25", "100 MiB", "caller-1", "reserved"):
        assert word in text
    empty = rayrtc("status", RAYRTC_REDIS_URL=redis_url, RAYRTC_CLUSTER="other").stdout
    assert "No workers in cluster other." in empty
    assert "No connections." in empty


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://u:p@h/0", "rediss://u:********@h/0"),
        ("unix://:p@/tmp/s", "unix://:********@/tmp/s"),
        ("redis+sentinel://u:p@h:1,i/m", "redis+sentinel://u:********@h:1,i/m"),
        ("redis://h?a=1&sentinel_password=p&b=2", "redis://h?a=1&sentinel_password=********&b=2"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
