"""The image's health check: finds out what runs in the container, and asks it."""

import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "deploy" / "docker" / "healthcheck.py"
SPEC = importlib.util.spec_from_file_location("healthcheck", PATH)
assert SPEC is not None
assert SPEC.loader is not None
healthcheck = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(healthcheck)


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/readyz": 200, "/healthz": 200}.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


def test_what_runs_is_known_by_its_command_line(tmp_path: Path) -> None:
    processes = {
        "1": ["tini", "-s", "--", "rayrtc", "workers", "app:stream"],
        "7": ["/opt/rayrtc/bin/python3", "/opt/rayrtc/bin/rayrtc", "workers", "app:stream"],
        "40": ["/opt/.../core/src/ray/raylet/raylet", "--session_dir=/tmp/ray/session"],
        "41": ["ray::MediaWorker"],
        "50": [sys.executable, "-m", "rayrtc.cli", "status"],
        "51": [],
    }
    for pid, words in processes.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("".join(f"{w}\0" for w in words).encode())
        (tmp_path / pid / "environ").write_bytes(f"A=b=c\0PID={pid}\0".encode())
    (tmp_path / "52").mkdir()  # has ended meanwhile
    assert healthcheck.services(tmp_path) == {
        ("workers", "app:stream"): {"A": "b=c", "PID": "7"},
        ("status",): {"A": "b=c", "PID": "50"},
    }


def test_each_service_is_asked_where_it_listens(port: str) -> None:
    check = healthcheck.check
    assert check(["control-plane", "a:b"], {"RAYRTC_HOST": "0.0.0.0", "RAYRTC_PORT": port})
    assert check(["control-plane", "a:b", "--port", port], {"RAYRTC_PORT": "1"})
    assert check(["control-plane", f"--port={port}", "a:b"], {})
    assert check(["workers", "a:b"], {"RAYRTC_METRICS_PORT": port})
    assert not check(["status"], {})
    assert not check(["start", "--address=head:6379"], {})


def test_a_service_that_does_not_answer_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    for words in (
        ["control-plane", "a:b", f"--port={port}"],
        ["start", "--head", f"--port={port}"],
    ):
        with pytest.raises(ConnectionRefusedError):
            healthcheck.check(words, {})
    with pytest.raises(ConnectionRefusedError):
        healthcheck.check(["workers", "a:b"], {"RAYRTC_METRICS_PORT": port})


def test_the_head_of_ray_is_well_when_it_listens() -> None:
    with socket.create_server((socket.gethostname(), 0)) as server:
        assert healthcheck.check(["start", "--head", f"--port={server.getsockname()[1]}"], {})


def test_it_needs_nothing_but_the_standard_library() -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(PATH)!r})"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ran.returncode == 0, ran.stderr
