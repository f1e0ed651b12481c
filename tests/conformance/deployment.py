"""`rayrtc dev` with the application of the suite, for those who give no base URL."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayrtc.free_port import free_port
from tests.e2e.stack import ROOT

COMMAND = [sys.executable, "-m", "rayrtc.cli", "dev", "tests.conformance.app:app"]
START_TIMEOUT = 180.0
STOP_TIMEOUT = 60.0


@contextmanager
def running(workers: int = 2) -> Iterator[str]:
    """The base URL of a deployment that ends with the block.

    Raises:
        RuntimeError: it did not start; with what it printed.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*COMMAND, "--port", str(port), "--workers", str(workers)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "RAYRTC_METRICS_PORT": "0",
                    # the machine that runs the tests may be as busy as it likes
                    "RAYRTC_LOAD_MAX": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            if not _ready(process, url):
                raise RuntimeError(log.read_text(errors="replace")[-4000:])
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + "/readyz", timeout=5) as response:
                if response.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            pass  # not yet
        time.sleep(0.2)
    return False
