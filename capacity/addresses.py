"""Which addresses of this machine a call offers: few, as each one costs a socket and checks."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aioice.ice

LOOPBACK = "127.0.0.1"

_host_addresses = aioice.ice.get_host_addresses
_inside = 0


@contextmanager
def offered(addresses: Sequence[str]) -> Iterator[None]:
    """Offer these addresses alone. Several may be inside at a time, with the same addresses."""
    global _inside
    _inside += 1
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: list(addresses)
    try:
        yield
    finally:
        _inside -= 1
        if not _inside:
            aioice.ice.get_host_addresses = _host_addresses


def all_addresses() -> list[str]:
    """Those of all interfaces, and loopback, which aioice leaves out."""
    return [*_host_addresses(use_ipv4=True, use_ipv6=True), LOOPBACK]


def address_towards(host: str, port: int) -> str:
    """The address that this machine's packets to `host`, an address, have.

    Raises:
        OSError: there is no way to it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return str(probe.getsockname()[0])
