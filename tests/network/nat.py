"""Two NATs in network namespaces: a server behind a router that forwards ports, a client behind one
that does not.

    client 192.168.77.2 -- nat 192.168.77.1 | 203.0.113.2 -- 203.0.113.1 | 10.77.1.1 -- 10.77.1.2
     (home)                 masquerades, a new port for each destination    (router)        (server)

Neither side has a route to the other's addresses. Needs root on Linux, `ip` and `iptables`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

OUTSIDE = "203.0.113.1"
"""The router's address."""
SERVER = "10.77.1.2"
PREFIX = "rn-"


def unavailable() -> str | None:
    """Why there can be none here, None when there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "iptables") if shutil.which(name) is None]:
        return f"{' and '.join(missing)} not installed (Debian: iproute2, iptables)"
    return None


class Nat:
    """Names of the namespaces."""

    def __init__(self) -> None:
        base = f"{PREFIX}{os.getpid()}-"
        self.server, self.router, self.home, self.client = (
            base + role for role in ("server", "router", "home", "client")
        )

    @property
    def all(self) -> tuple[str, ...]:
        return self.server, self.router, self.home, self.client

    def inside(self, namespace: str) -> list[str]:
        """What to put before a command."""
        return ["ip", "netns", "exec", namespace]


@contextmanager
def behind_nat(udp: int, tcp: int) -> Iterator[Nat]:
    """The router forwards one UDP port and one TCP port to the server, to the same ports."""
    nat = Nat()
    try:
        for namespace in nat.all:
            _run("ip", "netns", "add", namespace)
            _ip(namespace, "link set lo up")
        _link(nat.router, "lan", "10.77.1.1/24", nat.server, "eth0", f"{SERVER}/24")
        _link(nat.router, "wan", f"{OUTSIDE}/24", nat.home, "wan", "203.0.113.2/24")
        _link(nat.home, "lan", "192.168.77.1/24", nat.client, "eth0", "192.168.77.2/24")
        _ip(nat.server, "route add default via 10.77.1.1")
        _ip(nat.client, "route add default via 192.168.77.1")
        for namespace in (nat.router, nat.home):
            command = "echo 1 > /proc/sys/net/ipv4/ip_forward"
            _run(*nat.inside(namespace), "sh", "-c", command)
            _iptables(namespace, "-P FORWARD DROP")
            _iptables(namespace, "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
            _iptables(namespace, "-A FORWARD -i lan -j ACCEPT")
        _iptables(nat.router, "-t nat -A POSTROUTING -o wan -j MASQUERADE")
        _iptables(nat.home, "-t nat -A POSTROUTING -o wan -j MASQUERADE --random-fully")
        for protocol, port in (("udp", udp), ("tcp", tcp)):
            match = f"-i wan -p {protocol} --dport {port}"
            _iptables(nat.router, f"-t nat -A PREROUTING {match} -j DNAT --to-destination {SERVER}")
            _iptables(nat.router, f"-A FORWARD {match} -d {SERVER} -j ACCEPT")
        yield nat
    finally:
        for namespace in nat.all:
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", namespace)


def _link(
    one: str, name: str, address: str, other: str, other_name: str, other_address: str
) -> None:
    """A cable between two namespaces."""
    _ip(one, f"link add {name} type veth peer name {other_name} netns {other}")
    for namespace, interface, its in ((one, name, address), (other, other_name, other_address)):
        _ip(namespace, f"address add {its} dev {interface}")
        _ip(namespace, f"link set {interface} up")


def _ip(namespace: str, command: str) -> None:
    _run("ip", "-n", namespace, *command.split())


def _iptables(namespace: str, command: str) -> None:
    _run("ip", "netns", "exec", namespace, "iptables", "-w", *command.split())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
