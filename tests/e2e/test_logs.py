"""A request can be followed from the replica that took it to the worker: an operator searches by
the id that a client reports."""

import json
import time
import uuid
from typing import Any

import aiohttp

from tests.clients import AiortcClient
from tests.e2e.stack import Stack
from tests.socket_client import SocketClient


def lines(stack: Stack, service: str, request_id: str) -> list[dict[str, Any]]:
    """What a service has logged for a request."""
    whole = (stack.logs / f"{service}.log").read_text().rpartition("\n")[0]
    logged = [json.loads(line) for line in whole.splitlines() if request_id in line]
    return [line for line in logged if line.get("request_id") == request_id]


def until_logged(stack: Stack, service: str, request_id: str, message: str) -> dict[str, Any]:
    """The line; AssertionError with all others of the request when it does not come."""
    deadline = time.monotonic() + 15  # Ray passes on what workers log twice a second
    while True:
        found = lines(stack, service, request_id)
        for line in found:
            if line["message"] == message:
                return line
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


async def test_an_offer_is_found_by_its_id_in_both_services(stack: Stack) -> None:
    request_id = f"offer-{uuid.uuid4().hex}"
    client = AiortcClient(stack.replicas["a"])
    body = await client.create_offer()
    async with aiohttp.ClientSession(headers={"X-Request-ID": request_id}) as session:
        async with session.post(client.url + "/webrtc/offer", json=body) as response:
            assert response.status == 200
            assert response.headers["X-Request-ID"] == request_id
            answer = await response.json()
        await client.accept(answer)
        taken = until_logged(stack, "a", request_id, "connection taken")
        connected = until_logged(stack, "workers", request_id, "connecting -> connected")
        assert taken["connection_id"] == connected["connection_id"] == client.webrtc_id
        assert taken["worker_id"] == connected["worker_id"]
        assert taken["session"] == connected["session"]
        await client.close()
        until_logged(stack, "workers", request_id, "ended: client_closed")
    for line in lines(stack, "workers", request_id):
        assert {"connection_id", "worker_id", "stream"} <= line.keys(), line


async def test_a_websocket_is_found_by_the_id_of_its_handshake(stack: Stack) -> None:
    request_id = f"socket-{uuid.uuid4().hex}"
    client = SocketClient(stack.replicas["b"], rate=48000)
    client.headers = {"X-Request-ID": request_id}
    async with client:
        assert client.socket._response.headers["X-Request-ID"] == request_id
        await client.start()
        await client.send(event="stop")
        await client.wait_closed()
    taken = until_logged(stack, "b", request_id, "connection taken")
    ended = until_logged(stack, "workers", request_id, "ended: client_closed")
    assert taken["connection_id"] == ended["connection_id"] == client.id
    assert taken["worker_id"] == ended["worker_id"]
