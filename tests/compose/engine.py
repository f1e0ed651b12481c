"""A Docker engine of our own on a Debian machine, gone without a trace afterwards.

Its data, sockets and log are below one folder. dockerd changes the packet filter, the forwarding of
packets and the machine's interfaces; all of that is put back.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT = 30
STOP_TIMEOUT = 90

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FILTERS = ("iptables", "ip6tables")
CGROUPS = Path("/sys/fs/cgroup")
BRIDGE = "10.99.0.1/24"
INTERFACE = re.compile(r"docker0|br-[0-9a-f]{12}|veth[0-9a-f]{7}")
"""What the engine calls its interfaces: others that have come meanwhile are not ours."""
NETWORKS = "base=10.99.128.0/17,size=24"
"""Where the engine's networks are taken from: nothing else on the machine may use 10.99.0.0/16."""


class EngineError(RuntimeError):
    """The engine cannot be started; the text is for the operator."""


class Engine:
    """dockerd and its containerd, for the time of a `with` block."""

    def __init__(self) -> None:
        # Not /tmp: that may be memory, and the images are some gigabytes.
        self.directory = Path(tempfile.mkdtemp(prefix="rayrtc-compose-", dir="/var/tmp"))
        self.socket = f"unix://{self.directory}/docker.sock"
        self.log = self.directory / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Engine":
        if "docker0" in _interfaces():
            shutil.rmtree(self.directory)
            raise EngineError("a Docker engine runs on this machine: set DOCKER_HOST to use that")
        self._links = _interfaces()
        self._forwarding = FORWARDING.read_text()
        self._rules = {name: _run(f"{name}-save") for name in FILTERS}
        self._cgroups = set(CGROUPS.glob("*/docker"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.socket}",
                    f"--data-root={self.directory}/data",
                    f"--exec-root={self.directory}/exec",
                    f"--pidfile={self.directory}/pid",
                    f"--bip={BRIDGE}",
                    f"--default-address-pool={NETWORKS}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        environment = {**os.environ, "DOCKER_HOST": self.socket}
        while subprocess.run(
            ["docker", "info"], env=environment, capture_output=True, timeout=START_TIMEOUT
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise EngineError("dockerd does not start:\n" + self.log.read_text()[-2000:])
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()  # it ends its containers and its containerd too
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for interface in filter(INTERFACE.fullmatch, _interfaces() - self._links):
            _run("ip", "link", "delete", interface)
        for name, rules in self._rules.items():
            _restore(name, rules)
        FORWARDING.write_text(self._forwarding)
        for folder in set(CGROUPS.glob("*/docker")) - self._cgroups:
            _remove_cgroup(folder)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(f"{self.directory}/"):
                _run("umount", "--lazy", mounted)
        shutil.rmtree(self.directory)


def _run(*command: str, given: str | None = None) -> str:
    """What a short command prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def _interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _restore(name: str, rules: str) -> None:
    """Put back saved rules; a table that did not exist then is emptied."""
    table = ""
    empty = []
    for line in _run(f"{name}-save").splitlines():
        if line.startswith("*"):
            table = line
            if table not in rules.splitlines():
                empty.append(table)
        elif table in empty and line.startswith(":") and line.split()[1] != "-":
            empty.append(f"{line.split()[0]} ACCEPT [0:0]")
        elif table in empty and line == "COMMIT":
            empty.append(line)
    _run(f"{name}-restore", given="\n".join([rules, *empty, ""]))


def _remove_cgroup(folder: Path) -> None:
    """Remove an empty control group with all below it; what is in use stays."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
