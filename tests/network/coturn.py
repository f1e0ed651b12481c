"""A real TURN server, coturn, on a host of its own."""

import re
import socket
import subprocess
import time
from pathlib import Path

from tests.network.hosts import Host

START_TIMEOUT = 10.0
ALLOCATED = re.compile(r"session \d+: new, realm=<[^>]*>, username=<(\d+:[^>]*)>")


class Coturn:
    """Listens on `host` at UDP and TCP 3478, and at 443 as well, until the host's end.

    Args:
        secret: what its users' credentials are made of; no others are taken.
        log: file that what it says goes to.
    """

    def __init__(self, host: Host, secret: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = host.spawn(
                [
                    *("turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls"),
                    *("--use-auth-secret", f"--static-auth-secret={secret}", "--realm=test"),
                    *(f"--listening-ip={host.address}", f"--relay-ip={host.address}"),
                    *("--listening-port=3478", f"--aux-server={host.address}:443"),
                    *("--min-port=50000", "--max-port=50199"),
                    *("--log-file=stdout", "--verbose", f"--pidfile={log}.pid"),
                ],
                file,
            )
        with host.entered():
            self._wait_for(host.address)

    def _wait_for(self, address: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        for port in (3478, 443):
            while True:
                try:
                    socket.create_connection((address, port), 1).close()
                    break
                except OSError:
                    assert self._process.poll() is None, self._log.read_text(errors="replace")
                    assert time.monotonic() < deadline, f"coturn does not listen on {port}"
                    time.sleep(0.05)

    def users(self) -> list[str]:
        """The user name of each allocation so far."""
        return ALLOCATED.findall(self._log.read_text(errors="replace"))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
