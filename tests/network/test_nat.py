"""A server behind a NAT, as most clouds and containers have it: without the address that is
advertised its clients would be told one that leads nowhere.

    client - home | 203.0.113.2 -- 203.0.113.1 | router - server

The router forwards one UDP and one TCP port.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.network.deployment import deployed
from tests.network.hosts import Host, Network

UDP = 21010
CALLS = 5

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(["router", "home"], "203.0.113") as network:
        network.add_behind("router", "server")
        network.add_behind("home", "client")
        yield network


@pytest.fixture(scope="module")
def outside(network: Network) -> str:
    return network["router"].address


@pytest.fixture(scope="module")
def url(network: Network, outside: str) -> Iterator[str]:
    """What a running server is called from outside."""
    settings = {"RAYRTC_ADVERTISED_HOSTS": outside, "RAYRTC_UDP_PORTS": str(UDP)}
    with deployed(network["server"], **settings) as deployment:
        port = deployment.ports[0]
        network.forward("router", "server", "udp", UDP)
        network.forward("router", "server", "tcp", port)
        yield f"http://{outside}:{port}"


@pytest.fixture
def client(network: Network) -> Host:
    return network["client"]


def test_every_client_connects_to_the_advertised_address(
    client: Host, url: str, outside: str
) -> None:
    arguments = ("echo_call", url, "--calls", str(CALLS), "--seconds", "0.5", "--client")
    with ThreadPoolExecutor() as pool:
        made = pool.map(lambda name: client.report(*arguments, name), ("aiortc", "libwebrtc"))
        calls = [call for calls in made for call in calls]
    assert len(calls) == 2 * CALLS
    for call in calls:
        assert call["connect"] is not None, call
        assert call["candidates"] == [["host", outside, UDP]]
        # 0.0.0.0 is the session's own, which nobody uses
        assert set(call["address"]) <= {outside, "0.0.0.0"}
        assert call["hertz"] == pytest.approx(440, abs=5)


def test_a_page_connects_to_the_advertised_address(client: Host, url: str) -> None:
    calls = client.report("page_call", url, "--calls", str(CALLS))
    assert len(calls) == CALLS
    assert all(call["packets"] >= 25 and not call["server"] for call in calls)
