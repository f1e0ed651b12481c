"""A real Redis-compatible server for tests, which can be killed and started again."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from rayrtc.descendants import die_with_parent
from rayrtc.embedded_redis import find_server
from rayrtc.free_port import free_port


class RedisServer:
    """A server on a port of 127.0.0.1 that stores nothing: after a restart it is empty."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, password: str = "") -> None:
        """Start it and return when it answers; with the password that its options ask for."""
        self._process = subprocess.Popen(
            [
                str(find_server()),
                *("--port", str(self.port)),
                *("--bind", "127.0.0.1"),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--dir", str(self._directory)),
                *("--logfile", str(self._directory / "redis.log")),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError((self._directory / "redis.log").read_text())
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(f'AUTH "{password}"\r\n'.encode() if password else b"PING\r\n")
                    if probe.recv(16).startswith((b"+PONG", b"+OK")):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise TimeoutError("the Redis server does not answer")

    def kill(self) -> None:
        """SIGKILL, as when its machine dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop answering without closing a connection."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
