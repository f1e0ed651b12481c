"""Calls from where packets do not simply arrive: through TURN, and with a part of them lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.network.site import Site, site

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.mark.parametrize(("protocol", "port"), [("udp", 3478), ("tcp", 443)])
def test_a_page_behind_a_firewall_calls_through_turn(
    running: Site, protocol: str, port: int
) -> None:
    """A company's network that lets nothing else out, at the worst not even UDP."""
    running.firewall((protocol, port))
    (call,) = running.network["client"].report("page_call", running.deployment.page)
    assert (call["type"], call["protocol"]) == ("relay", protocol)
    assert call["packets"] >= 25


def test_a_worker_that_has_a_relayed_address_alone(running: Site) -> None:
    """It offers no other one. Each connection has one allocation, with its own credentials."""
    before = len(running.turn.users())
    url = running.deployment.app + "/relayed"
    calls = running.network["outside"].report("echo_call", url, "--calls", "2", "--seconds", "2")
    assert [call["relay"] for call in calls] == [running.network["turn"].address] * 2
    assert [kind for call in calls for kind, *_ in call["candidates"]] == ["relay"] * 2
    assert all(call["heard"] > 0 for call in calls)
    users = running.turn.users()[before:]
    assert len(users) == len(set(users)) == 2


def test_a_call_goes_on_when_a_fifth_of_the_packets_is_lost(running: Site) -> None:
    """A bad mobile network: calls connect, and what arrives is heard.

    aiortc's own waits double up to 16 s, so that one of some hundred of its calls is too late: of
    two calls one has to connect.
    """
    outside = running.network["outside"]

    def called(client: str, calls: int) -> list[dict[str, Any]]:
        arguments = ("--seconds", "3", "--client", client, "--calls", str(calls))
        made = outside.report("echo_call", running.deployment.app, *arguments, timeout=90)
        connected = [call for call in made if call["connect"] is not None]
        assert connected, (client, made)
        return connected

    with running.loss(0.2), ThreadPoolExecutor() as pool:
        aiortc, libwebrtc = pool.map(called, ("aiortc", "libwebrtc"), (2, 1))
    for call in aiortc + libwebrtc:
        assert call["in"]["lost"] > 0
        # each packet has to arrive twice, for it is an echo: 64 of 100 do
        assert call["in"]["received"] > 50
    # aiortc leaves out much of what came; browsers conceal what did not
    assert libwebrtc[0]["heard"] > 1.5
