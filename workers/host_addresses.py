"""Which addresses of this machine media is sent from and received at (RFC 8445, 5.1.1.1)."""

import socket
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address

import psutil

LEFT_OUT = (
    "docker*",
    "br-*",
    "podman*",
    "veth*",
    "cni*",
    "cali*",
    "cilium*",
    "flannel*",
    "kube-*",
    "nodelocaldns*",
    "tunl*",
    "lxc*",
    "lxdbr*",
    "virbr*",
    "vboxnet*",
    "vmnet*",
)
"""Interfaces that are not used unless they are named, or there is no other: bridges and virtual
links to the containers and virtual machines of this host. No client comes in through them, but
each address there costs every client a connectivity check, or leads it to another network's host.
"""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def host_addresses(patterns: Sequence[str] = ()) -> list[str]:
    """IPv4 and IPv6 addresses of the interfaces whose names fit one of `patterns`.

    Without patterns: of all interfaces but loopback and `LEFT_OUT`; where these have none, of
    those; else of loopback. Link-local addresses are of no use to a client and never among them.
    """
    if patterns:
        return list(_addresses(lambda name: _fits(name, patterns)))
    return (
        list(_addresses(lambda name: not _fits(name, LEFT_OUT), loopback=False))
        or list(_addresses(lambda name: True, loopback=False))
        or list(_addresses(lambda name: True))
    )


def interfaces() -> list[str]:
    """Names of this machine's interfaces that have an address."""
    return sorted(psutil.net_if_addrs())


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _addresses(chosen: Callable[[str], bool], loopback: bool = True) -> Iterator[str]:
    for name, entries in psutil.net_if_addrs().items():
        if not chosen(name):
            continue
        for entry in entries:
            if entry.family not in _FAMILIES:
                continue
            address = ip_address(entry.address)
            if not address.is_link_local and (loopback or not address.is_loopback):
                yield str(address)
