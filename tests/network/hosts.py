"""Hosts on one machine: network namespaces on a bridge, for tests of what crosses a network.

The bridge is in a namespace of its own, so nothing of the machine's own network changes. Needs
root on Linux, and what `deploy/setup/network.sh` installs.
"""

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.e2e.stack import ROOT

CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
PROGRAMS = ("ip", "iptables", "turnserver")
END_TIMEOUT = 10.0


def unusable() -> str | None:
    """Why there can be no such hosts here: only root on Linux has them. None when there can.

    Raises:
        RuntimeError: root on Linux lacks a program.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return "NOT TESTED, what crosses a network: network namespaces need root on Linux"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise RuntimeError(f"missing: {', '.join(missing)}. Run: sh deploy/setup/network.sh")
    return None


def run(*command: str, timeout: float = 30) -> str:
    """What a short command prints.

    Raises:
        subprocess.CalledProcessError: it failed; what it printed is a note.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stdout + error.stderr)
        raise
    return done.stdout


class Host:
    """One network namespace with an address on the bridge.

    Attributes:
        name: of the host in its network.
        namespace: of the machine.
        address: IPv4, without its prefix.
        link: the bridge's end of its cable.
    """

    def __init__(self, name: str, namespace: str, address: str, switch: str, link: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self.link = link
        self._switch = switch

    def run(self, *command: str, timeout: float = 30) -> str:
        """What a short command prints on this host."""
        return run("ip", "netns", "exec", self.namespace, *command, timeout=timeout)

    def report(self, module: str, *arguments: str, timeout: float = 60) -> list[Any]:
        """What a program of this package prints on this host, a JSON value a line."""
        command = [sys.executable, "-m", f"tests.network.{module}", *arguments]
        printed = self.run("env", f"--chdir={ROOT}", *command, timeout=timeout)
        return [json.loads(line) for line in printed.splitlines()]

    def spawn(
        self,
        command: Sequence[str],
        log: IO[bytes] | int,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on this host. It is the caller's to end. `env` is all of its own."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
        )

    def pids(self) -> list[int]:
        """The processes of this host but this one, should it have entered."""
        pids = [int(pid) for pid in run("ip", "netns", "pids", self.namespace).split()]
        return [pid for pid in pids if pid != os.getpid()]

    def add_address(self, address: str) -> None:
        """A further IPv4 address."""
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")

    def unplug(self) -> None:
        """Cut the link: nothing comes or goes any more, and nobody is told."""
        run("ip", "-n", self._switch, "link", "set", self.link, "down")

    def plug_in(self) -> None:
        """Restore the link."""
        run("ip", "-n", self._switch, "link", "set", self.link, "up")

    @contextmanager
    def cut_off_from(self, address: str) -> Iterator[None]:
        """No packet passes between this host and another one; others still reach both."""
        rules = [["INPUT", "-s", address], ["OUTPUT", "-d", address]]
        for chain, *match in rules:
            self.run("iptables", "-A", chain, *match, "-j", "DROP")
        try:
            yield
        finally:
            for chain, *match in rules:
                self.run("iptables", "-D", chain, *match, "-j", "DROP")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and what processes and threads it starts, are on this host."""
        with (
            Path("/proc/thread-self/ns/net").open() as here,
            (NAMESPACES / self.namespace).open() as there,
        ):
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(here.fileno())

    def kill(self) -> None:
        """Power off: SIGKILL to every process at once."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended meanwhile


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Hosts that reach each other at `SUBNET.1`, `SUBNET.2`, ... in the order of their names.

    A context manager: at its end all of their processes are killed and the namespaces are gone.
    """

    def __init__(self, names: Sequence[str], subnet: str = "10.77.0") -> None:
        self._tag = secrets.token_hex(3)
        self._names = names
        self._subnet = subnet
        self._made: list[str] = []
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add_behind(self, router: str, name: str) -> Host:
        """A further host, which reaches the others through `router` and by its address (NAPT).

        It has a new port there for each destination, and the others have no route to it. At most
        one behind a router; what `iptables` has there in `FORWARD` is its firewall.
        """
        namespace, at = self._add_namespace(name), self.hosts[router]
        subnet = f"192.168.{len(self._made)}"
        link, inside, outside = f"to-{name}"[:15], f"{subnet}.1", f"{subnet}.254"
        at.run(
            *("ip", "link", "add", link, "type", "veth"),
            *("peer", "name", "eth0", "netns", namespace),
        )
        at.run("ip", "address", "add", f"{outside}/24", "dev", link)
        at.run("ip", "link", "set", link, "up")
        at.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        masquerade = ("-o", "eth0", "-j", "MASQUERADE", "--random-fully")
        at.run("iptables", "-t", "nat", "-A", "POSTROUTING", *masquerade)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "address", "add", f"{inside}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", outside)
        self.hosts[name] = host = Host(name, namespace, inside, at.namespace, link)
        return host

    def forward(self, router: str, name: str, protocol: str, port: int) -> None:
        """What comes to a port of `router` goes to that port of the host behind it (DNAT)."""
        way = ("-i", "eth0", "-p", protocol, "--dport", str(port), "-j", "DNAT")
        to = ("--to-destination", self.hosts[name].address)
        self.hosts[router].run("iptables", "-t", "nat", "-A", "PREROUTING", *way, *to)

    def close(self) -> None:
        """End everything that runs on the hosts, and remove them."""
        for host in self.hosts.values():
            deadline = time.monotonic() + END_TIMEOUT
            while host.pids() and time.monotonic() < deadline:
                host.kill()
                time.sleep(0.05)
        for namespace in self._made:
            subprocess.run(["ip", "netns", "delete", namespace], timeout=30, check=False)
        self._made.clear()
        self.hosts.clear()

    def _make(self) -> None:
        switch = self._add_namespace("switch")
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        # Hosts look for their own address by that of a host outside; packets to it end here.
        run("ip", "-n", switch, "address", "add", f"{self._subnet}.254/24", "dev", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(self._names, 1):
            namespace = self._add_namespace(name)
            link, address = f"to-{name}"[:15], f"{self._subnet}.{number}"
            in_switch: list[Any] = ["ip", "-n", switch]
            run(
                *(*in_switch, "link", "add", link, "type", "veth"),
                *("peer", "name", "eth0", "netns", namespace),
            )
            run(*in_switch, "link", "set", link, "master", "bridge", "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
            run("ip", "-n", namespace, "route", "add", "default", "via", f"{self._subnet}.254")
            self.hosts[name] = Host(name, namespace, address, switch, link)

    def _add_namespace(self, name: str) -> str:
        namespace = f"rayrtc-{self._tag}-{name}"
        run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        return namespace
