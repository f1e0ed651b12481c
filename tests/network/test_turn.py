"""Workers that reach their clients through a relay, or ask a STUN server who they are."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients import AiortcClient
from tests.network.turn import PASSWORD, USER, turn_server, unavailable
from tests.workers.host import AsyncEcho, hosting, until

pytestmark = pytest.mark.skipif(
    bool(unavailable()), reason=f"NOT TESTED, workers behind TURN: {unavailable()}"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with turn_server(tmp_path_factory.mktemp("turn")) as port:
        yield port


async def candidates(configuration: dict[str, Any]) -> list[tuple[str, int, bool]]:
    """Type and port of those in the answer, and whether it is the shared port; after a call."""
    async with hosting(AsyncEcho(), server_rtc_configuration=configuration) as host:
        client = AiortcClient("", data_channel=False)
        connection = await host.call(client)
        await until(lambda: sum(map(len, client.samples)) > 4800)
        await client.close()
        found = re.findall(r"127\.0\.0\.1 (\d+) typ (\w+)", await connection.answer())
        return [(kind, int(port), int(port) == host.udp_mux.port) for port, kind in found]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_worker_without_a_way_out_is_reached_through_its_relay(
    port: int, transport: str
) -> None:
    server = {"urls": f"turn:127.0.0.1:{port}?transport={transport}"}
    server |= {"username": USER, "credential": PASSWORD}
    ((kind, _, shared),) = await candidates({"iceServers": [server], "iceTransportPolicy": "relay"})
    assert (kind, shared) == ("relay", False)


async def test_relayed_candidates_come_beside_those_of_the_shared_port(port: int) -> None:
    turn = {"urls": f"turn:127.0.0.1:{port}", "username": USER, "credential": PASSWORD}
    stun = {"urls": f"stun:127.0.0.1:{port}"}
    offered = await candidates({"iceServers": [turn, stun]})
    assert [(kind, shared) for kind, _, shared in offered] == [
        ("host", True),
        ("srflx", True),
        ("relay", False),
    ]
