"""Addresses that are offered: one too many sends a client to a stranger, one too few to nobody."""

import socket
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from rayrtc.settings import Settings
from workers.host_addresses import host_addresses
from workers.network import of_this_machine, open_port
from workers.udp_mux import PortError

V4, V6 = socket.AF_INET, socket.AF_INET6
LOOPBACK = {"lo": [(V4, "127.0.0.1"), (V6, "::1")]}
BRIDGE = {"docker0": [(V4, "172.17.0.1"), (V6, "fe80::1%docker0")], "br-3f2a": [(V4, "172.18.0.1")]}
CARDS = {
    "eth0": [(V4, "10.1.0.7"), (V6, "2001:db8::7"), (V6, "fe80::7%eth0")],
    "ens5": [(V4, "192.168.4.7"), (V6, "fd12::7")],
}


Machine = Callable[[dict[str, list[tuple[int, str]]]], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Gives this machine other interfaces."""

    def have(interfaces: dict[str, list[tuple[int, str]]]) -> None:
        entries = {
            name: [SimpleNamespace(family=family, address=address) for family, address in addresses]
            for name, addresses in interfaces.items()
        }
        monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)

    return have


def test_loopback_bridges_and_link_local_addresses_are_left_out(machine: Machine) -> None:
    machine(LOOPBACK | BRIDGE | CARDS)
    assert host_addresses() == ["10.1.0.7", "2001:db8::7", "192.168.4.7", "fd12::7"]


def test_what_is_left_out_is_used_where_there_is_nothing_else(machine: Machine) -> None:
    machine(LOOPBACK | BRIDGE)
    assert host_addresses() == ["172.17.0.1", "172.18.0.1"]
    machine(LOOPBACK)
    assert host_addresses() == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("eth0",), ["10.1.0.7", "2001:db8::7"]),
        (("ens*", "docker0"), ["172.17.0.1", "192.168.4.7", "fd12::7"]),
        (("lo",), ["127.0.0.1", "::1"]),
        (("wlan*",), []),
    ],
)
def test_interfaces_are_chosen_by_name_or_pattern(
    machine: Machine, patterns: tuple[str, ...], expected: list[str]
) -> None:
    machine(LOOPBACK | BRIDGE | CARDS)
    assert host_addresses(patterns) == expected


async def test_a_worker_says_which_interfaces_there_are(machine: Machine) -> None:
    machine(LOOPBACK | CARDS)
    with pytest.raises(PortError, match=r"\(wlan\*\).*there are ens5, eth0, lo"):
        await open_port(Settings(ice_interfaces="wlan*"))


async def test_advertised_hosts_may_be_names() -> None:
    settings = Settings(ice_addresses="127.0.0.1", advertised_hosts="203.0.113.9,localhost,::1")
    mux = await open_port(settings)
    mux.close()
    assert mux.advertised[0] == "203.0.113.9"
    assert {"127.0.0.1", "::1"} & set(mux.advertised[1:])
    assert len(set(mux.advertised)) == len(mux.advertised)


async def test_a_worker_says_which_advertised_host_has_no_address() -> None:
    settings = Settings(ice_addresses="127.0.0.1", advertised_hosts="no.such.host.invalid")
    with pytest.raises(PortError, match=r"ADVERTISED_HOSTS: no\.such\.host\.invalid has no"):
        await open_port(settings)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", range(1)),
        ("40000", range(40000, 40001)),
        ("40000-40007", range(40000, 40008)),
    ],
)
def test_a_range_of_ports_has_both_its_ends(text: str, ports: range) -> None:
    assert Settings(udp_ports=text).udp_port_range() == ports


@pytest.mark.parametrize("text", ["0", "x", "40000-", "-5", "40001-40000", "1-65536", "1-2-3", "²"])
def test_a_range_that_is_none_is_refused_when_the_command_starts(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings(udp_ports=text)


def test_an_address_that_is_none_is_refused_when_the_command_starts() -> None:
    with pytest.raises(ValueError, match="eth0"):
        Settings(ice_addresses="eth0")


def test_a_machine_has_the_network_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the machine whose service started the pool would send its clients there."""
    pool = {"RAYRTC_SLOTS": "5", "RAYRTC_ADVERTISED_HOSTS": "192.0.2.1", "RAYRTC_UDP_PORTS": ""}
    assert of_this_machine(pool) == pool
    monkeypatch.setenv("RAYRTC_ADVERTISED_HOSTS", "192.0.2.2")
    assert of_this_machine(pool) == {"RAYRTC_SLOTS": "5"}
