"""A TURN server that dies during calls: it must not keep slots or memory of workers."""

import asyncio
from typing import Any

import pytest
from aioice import stun
from pydantic import SecretStr

from rayrtc.cluster.models import EndReason
from rayrtc.settings import Settings
from tests.clients import AiortcClient
from tests.workers.host import AsyncEcho, Host
from workers import allocations


class DyingServer(asyncio.DatagramProtocol):
    """Gives an allocation to everybody and never answers again."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.url = f"turn:127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        self.asked: list[stun.Method] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = stun.parse_message(data)
        self.asked.append(request.message_method)
        if request.message_method is stun.Method.ALLOCATE:
            answer = stun.Message(
                stun.Method.ALLOCATE, stun.Class.RESPONSE, transaction_id=request.transaction_id
            )
            answer.attributes["LIFETIME"] = 600
            answer.attributes["XOR-MAPPED-ADDRESS"] = addr
            answer.attributes["XOR-RELAYED-ADDRESS"] = ("127.0.0.1", 9)
            self.transport.sendto(bytes(answer), addr)


async def test_a_call_ends_completely_when_the_turn_server_has_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allocations, "DELETE_TIMEOUT", 0.2)
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        DyingServer, local_addr=("127.0.0.1", 0)
    )
    turn = {"worker_turn_url": server.url, "turn_secret": SecretStr("shared")}
    host = Host(AsyncEcho())
    host.connections._settings = Settings(ice_addresses=("127.0.0.1",), **turn)
    before = asyncio.all_tasks()
    client = AiortcClient("")
    connection = await host.call(client)
    connection.close(EndReason.SERVER_CLOSED)
    await asyncio.wait_for(connection.task, 4)
    await client.close()
    async with asyncio.timeout(5):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.02)
    assert server.asked.count(stun.Method.ALLOCATE) == 1
    assert stun.Method.REFRESH in server.asked
    transport.close()
