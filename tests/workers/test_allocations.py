"""A TURN server that fails: it must not keep slots or memory of workers, nor stop calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aioice import stun
from pydantic import SecretStr

from rayrtc.cluster.models import EndReason
from tests.clients import AiortcClient
from tests.workers.host import AsyncEcho, Host, hosting, until
from workers import allocations


class TurnServer(asyncio.DatagramProtocol):
    """Gives an allocation to everybody and never answers again, or refuses them at once."""

    refuses = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.url = f"turn:127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        self.asked: list[stun.Method] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = stun.parse_message(data)
        self.asked.append(request.message_method)
        if request.message_method is stun.Method.ALLOCATE:
            answered = stun.Class.ERROR if self.refuses else stun.Class.RESPONSE
            answer = stun.Message(stun.Method.ALLOCATE, answered, request.transaction_id)
            if self.refuses:
                answer.attributes["ERROR-CODE"] = (403, "Forbidden")
            else:
                answer.attributes["LIFETIME"] = 600
                answer.attributes["XOR-MAPPED-ADDRESS"] = addr
                answer.attributes["XOR-RELAYED-ADDRESS"] = ("127.0.0.1", 9)
            self.transport.sendto(bytes(answer), addr)


@pytest.fixture
async def server() -> AsyncIterator[TurnServer]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        TurnServer, local_addr=("127.0.0.1", 0)
    )
    yield protocol
    transport.close()


@asynccontextmanager
async def hosting_with(server: TurnServer) -> AsyncIterator[Host]:
    async with hosting(AsyncEcho()) as host:
        turn = {"worker_turn_url": server.url, "turn_secret": SecretStr("shared")}
        host.connections._settings = host.settings.model_copy(update=turn)
        yield host


async def test_a_call_ends_completely_when_the_turn_server_has_died(
    server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocations, "DELETE_TIMEOUT", 0.2)
    async with hosting_with(server) as host:
        before = asyncio.all_tasks()
        client = AiortcClient("")
        connection = await host.call(client)
        connection.close(EndReason.SERVER_CLOSED)
        await asyncio.wait_for(connection.task, 4)
        await client.close()
        await until(lambda: asyncio.all_tasks() == before)
    assert server.asked.count(stun.Method.ALLOCATE) == 1
    assert stun.Method.REFRESH in server.asked


async def test_a_turn_server_that_refuses_is_reported_and_the_call_goes_on(
    server: TurnServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = True
    async with hosting_with(server) as host:
        client = AiortcClient("")
        await host.call(client)
        assert "no relayed address" in caplog.text
        await client.close()
