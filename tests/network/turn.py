"""A TURN and STUN server on loopback: coturn."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.stack import free_port

USER, PASSWORD = "caller", "secret"


def unavailable() -> str | None:
    """Why there is none, None when there is."""
    return None if shutil.which("turnserver") else "turnserver not installed (Debian: coturn)"


@contextmanager
def turn_server(directory: Path) -> Iterator[int]:
    """Its port, of UDP and TCP."""
    port = free_port()
    command = [
        *("turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "--lt-cred-mech"),
        *(f"--user={USER}:{PASSWORD}", "--realm=test", "--allow-loopback-peers"),
        *("--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}"),
        *(f"--pidfile={directory}/pid", f"--log-file={directory}/log", "--simple-log"),
    ]
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
