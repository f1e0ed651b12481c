"""`rayrtc dev` in a terminal, for the tests of how it ends and recovers."""

import contextlib
import fcntl
import os
import pty
import re
import select
import socket
import subprocess
import termios
import time
from pathlib import Path

import psutil

from rayrtc.free_port import free_port
from tests.e2e.stack import RAYRTC, ROOT

STOP_TIMEOUT = 40.0


class DevSession:
    """`rayrtc dev` in a terminal of its own, as a user has it, and what belongs to it."""

    def __init__(
        self,
        temporary: Path,
        spec: str = "examples.echo:stream",
        *options: str,
        path: Path = ROOT,
    ) -> None:
        self.temporary = temporary
        self.path = path
        self.port = free_port()
        self.metrics_port = free_port()
        self._raw = b""
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*RAYRTC, "dev", spec, "--port", str(self.port), *options],
            cwd=path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(temporary),
                "RAYRTC_METRICS_PORT": str(self.metrics_port),
                "TERM": "xterm",
                "COLUMNS": "200",
            },
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.tree: list[psutil.Process] = []

    @property
    def output(self) -> str:
        """What the terminal shows so far, without colors and movements of the cursor."""
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self._raw.decode(errors="replace"))

    def read_until(self, text: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            self.read(0.2)
            ended = self.process.poll() is not None
            assert not ended or text in self.output, self.output

    def read(self, timeout: float) -> None:
        if select.select([self.master], [], [], timeout)[0]:
            with contextlib.suppress(OSError):  # EIO: the terminal's last user has ended
                self._raw += os.read(self.master, 1 << 16)

    def observe(self) -> None:
        """Remember the processes, the directory and the ports of the session."""
        self.tree = psutil.Process(self.process.pid).children(recursive=True)
        self.redis_port = int(re.findall(r"127\.0\.0\.1 port (\d+)", self.output)[0])
        raylet = command(self.process_of("raylet_socket_name"))
        self.directory = Path(re.findall(r"/tmp/rayrtc-\w+", raylet)[0])
        assert self.directory.is_dir()
        for port in (self.port, self.metrics_port, self.redis_port):
            assert listens(port)

    def process_of(self, part: str) -> psutil.Process:
        return next(process for process in self.tree if part in command(process))

    def left(self) -> list[str]:
        """Everything that is still there."""
        found = [str(process) for process in self.tree if alive(process)]
        found += [str(path) for path in [self.directory] if path.exists()]
        found += [str(path) for path in self.temporary.iterdir()]
        found += [
            f"port {port}"
            for port in (self.port, self.metrics_port, self.redis_port)
            if listens(port)
        ]
        return found

    def wait_gone(self) -> None:
        """Until nothing is left.

        Raises:
            AssertionError: something still is after 40 s.
        """
        deadline = time.monotonic() + STOP_TIMEOUT
        while self.process.poll() is None or (left := self.left()):
            assert time.monotonic() < deadline, left or self.output
            self.read(0.1)
        while select.select([self.master], [], [], 0)[0]:
            size = len(self.output)
            self.read(0)
            if len(self.output) == size:
                break

    def close(self) -> None:
        """End what a failed test left."""
        if self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.tree += psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
        for process in self.tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)
        os.close(self.master)


def command(process: psutil.Process) -> str:
    """The command line; empty for a process that has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0
