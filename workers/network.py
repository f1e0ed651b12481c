"""The UDP port of a worker as the settings want it."""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from rayrtc import tracing
from rayrtc.settings import Settings
from workers.host_addresses import host_addresses, interfaces
from workers.udp_mux import PortError, UDPMux

RESOLVE_TIMEOUT = 5.0
"""Seconds for the names in `advertised_hosts`."""

_OWN = (
    "RAYRTC_ADVERTISED_HOSTS",
    "RAYRTC_ICE_ADDRESSES",
    "RAYRTC_ICE_INTERFACES",
    "RAYRTC_UDP_PORTS",
)


async def open_port(settings: Settings) -> UDPMux:
    """Bind the port.

    Raises:
        PortError: there is no port, no such interface, or no address of an advertised host.
    """
    if not (settings.ice_addresses or host_addresses(settings.ice_interfaces)):
        wanted = ", ".join(settings.ice_interfaces)
        raise PortError(
            f"no interface of RAYRTC_ICE_INTERFACES ({wanted}) has an address; "
            f"there are {', '.join(interfaces())}"
        )

    def addresses() -> Sequence[str]:
        return settings.ice_addresses or host_addresses(settings.ice_interfaces)

    advertised = [
        address for host in settings.advertised_hosts for address in await _addresses_of(host)
    ]
    return UDPMux(addresses, settings.udp_port_range(), tuple(dict.fromkeys(advertised)))


async def _addresses_of(host: str) -> list[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = str(error) or "no answer"
        raise PortError(f"RAYRTC_ADVERTISED_HOSTS: {host} has no address: {reason}") from None
    return [str(address[0]) for *_, address in found]


def of_this_machine(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, that of the service that started the pool, as it holds on this machine.

    Addresses and ports are a machine's own: where its environment, which Ray gave to this process,
    has any of these settings, those of the pool do not count. Of OpenTelemetry's variables each
    counts that it has.
    """
    own = {name for name in os.environ if name.startswith(tracing.PREFIX)}
    if any(name in os.environ for name in _OWN):
        own |= set(_OWN)
    return {name: value for name, value in environment.items() if name not in own}
