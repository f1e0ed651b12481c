"""Workers that reach their clients through a relay, or ask a STUN server who they are."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayrtc.turn_secret import turn_password
from tests.clients import AiortcClient
from tests.network.coturn import Coturn
from tests.network.hosts import Network
from tests.workers.host import AsyncEcho, hosting, until

SECRET = "a secret for the tests only"


@pytest.fixture
def turn(tmp_path: Path) -> Iterator[str]:
    """The address of a server; the test is on its host."""
    with Network(["turn"]) as network, network["turn"].entered():
        server = Coturn(network["turn"], SECRET, tmp_path / "log")
        try:
            yield f"{network['turn'].address}:3478"
        finally:
            server.stop()


async def candidates(configuration: dict[str, Any]) -> list[tuple[str, bool]]:
    """Type of those in the answer, and whether it is the shared port; after a call."""
    user = f"{int(time.time()) + 600}:worker"
    for server in configuration["iceServers"]:
        server |= {"username": user, "credential": turn_password(SECRET, user)}
    async with hosting(AsyncEcho(), server_rtc_configuration=configuration) as host:
        client = AiortcClient("", data_channel=False, loopback=False)
        connection = await host.call(client)
        await until(lambda: sum(map(len, client.samples)) > 4800)
        await client.close()
        found = re.findall(r" (\d+) typ (\w+)", await connection.answer())
        return [(kind, int(port) == host.udp_mux.port) for port, kind in found]


async def test_a_worker_without_udp_is_reached_through_its_relay(turn: str) -> None:
    server = {"urls": f"turn:{turn}?transport=tcp"}
    configuration = {"iceServers": [server], "iceTransportPolicy": "relay"}
    assert await candidates(configuration) == [("relay", False)]


async def test_relayed_candidates_come_beside_those_of_the_shared_port(turn: str) -> None:
    servers = [{"urls": f"turn:{turn}"}, {"urls": f"stun:{turn}"}]
    offered = await candidates({"iceServers": servers})
    assert offered == [("host", True), ("srflx", True), ("relay", False)]
