"""One call of `/obedient` or a stream like it, the same over each transport."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import numpy as np

from tests.clients import AiortcClient
from tests.conformance.calls import local
from tests.e2e.sse import Event, Reader
from tests.socket_client import SocketClient

Transport = Literal["webrtc", "websocket", "telephone"]
TRANSPORTS: tuple[Transport, ...] = ("webrtc", "websocket", "telephone")
TIMEOUT = 20.0
"""Seconds of every wait."""


class Call:
    """What a test does with a call.

    Args:
        url: of the stream.
        client: connected.
    """

    def __init__(self, url: str, client: AiortcClient | SocketClient) -> None:
        self.url = url
        self.client = client
        self.id = client.webrtc_id if isinstance(client, AiortcClient) else client.id

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.client.messages

    @property
    def seconds_heard(self) -> float:
        """Of sound that has come and is none of silence."""
        if not self.client.samples:
            return 0.0
        loud = np.abs(np.concatenate(self.client.samples).astype(int)) > 300
        return float(loud.sum() / self.client.rate)

    async def command(self, command: str, value: Any) -> None:
        """Have the handler do something."""
        body = {"webrtc_id": self.id, "inputs": [command, value]}
        status, answer = await request("POST", self.url + "/input_hook", json=body)
        assert (status, answer) == (200, {"status": "success"})

    async def message(self, type: str, count: int = 1) -> dict[str, Any]:
        """Message number `count` of this type; waits for it."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                found = [message for message in self.messages if message.get("type") == type]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.02)

    async def ended(self) -> None:
        """Return when the server has closed the connection."""
        if isinstance(self.client, AiortcClient):
            await self.client.wait_for_state("closed", timeout=TIMEOUT)
        else:
            assert await self.client.wait_closed(TIMEOUT) == 1000

    async def latest(self, **query: Any) -> tuple[int, Any]:
        params = {"webrtc_id": self.id, **query}
        return await request("GET", self.url + "/outputs/latest", params=params)


@asynccontextmanager
async def calling(
    base: str, prefix: str = "/obedient", transport: Transport = "webrtc", id: str | None = None
) -> AsyncIterator[Call]:
    """A connection that sends a tone; the client hangs up at the end of the block."""
    url = base + prefix
    if transport == "webrtc":
        client = AiortcClient(url, webrtc_id=id, loopback=local(base))
        try:
            await client.connect()
            yield Call(url, client)
        finally:
            await client.close()
    else:
        async with SocketClient(url, id, rate=8000, phone=transport == "telephone") as socket:
            await socket.start()
            socket.play()
            async with asyncio.timeout(TIMEOUT):
                while not socket.messages:  # each stream says something at once
                    await asyncio.sleep(0.02)
            assert "type" in socket.messages[0], socket.messages[0]
            yield Call(url, socket)


async def refused(base: str, prefix: str, transport: Transport, id: str | None = None) -> Any:
    """The body that a call is refused with; AssertionError when its status does not fit."""
    url = base + prefix
    if transport == "webrtc":
        client = AiortcClient(url, webrtc_id=id, loopback=local(base))
        try:
            offer = await client.create_offer()
        finally:
            await client.close()
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + "/webrtc/offer", json=offer) as response,
        ):
            body = await response.json()
            assert response.status == STATUS[body["meta"]["error"]]
            if response.status in (429, 503):
                assert response.headers["Retry-After"].isdecimal()
        return body
    async with SocketClient(url, id, rate=8000, phone=transport == "telephone") as socket:
        await socket.start()
        assert await socket.wait_closed(TIMEOUT) == 1000
        (body,) = socket.messages
        return body


STATUS = {
    "concurrency_limit_reached": 429,
    "no_worker_available": 503,
    "connection_already_exists": 409,
    "unknown_connection": 404,
    "connection_closed": 410,
    "invalid_sdp": 400,
    "invalid_candidate_format": 400,
    "unsupported_track": 400,
}
"""The contract's codes that can be reached from outside without credentials."""


def failed(code: str, answer: tuple[int, Any]) -> dict[str, Any]:
    """Assert that an answer is this failure; the members of its `meta`."""
    status, body = answer
    assert (status, body["status"]) == (STATUS[code], "failed"), body
    assert body["meta"]["error"] == code
    meta: dict[str, Any] = body["meta"]
    return meta


async def request(method: str, url: str, **options: Any) -> tuple[int, Any]:
    """Status and parsed body."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, **options) as response,
    ):
        text = await response.text()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text


async def events(url: str, id: str, last_event_id: str | None = None) -> list[Event]:
    """All events of a connection until its end."""
    reader = Reader(url, id, last_event_id)
    try:
        async with asyncio.timeout(TIMEOUT):
            await reader.task
    finally:
        await reader.close()
    assert reader.status == 200
    return reader.events
