"""Two users' inputs and outputs never meet."""

import asyncio
import json
import uuid
from typing import Any

import aiohttp

from tests.e2e.packets import Listener
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack
from tests.socket_client import SocketClient

CONNECTIONS = 100
ROUNDS = 4
AT_ONCE = 10
"""Calls that connect at a time."""


class User:
    """One connection, with a reader of its outputs at each replica, and the inputs it has set."""

    def __init__(self, stack: Stack, number: int) -> None:
        prefix = ("/owner", "/sync-owner")[number % 2]
        self.urls = [stack.replicas[name] + prefix for name in ("a", "b")]
        self.id = uuid.uuid4().hex
        self.by_socket = number % 4 >= 2
        self.call: Any = None
        self.readers: list[Reader] = []
        self.sent: list[str] = []

    async def connect(self) -> None:
        url = self.urls[int(self.id, 16) % 2]
        if self.by_socket:
            self.call = SocketClient(url, self.id)
            await self.call.__aenter__()
            await self.call.start()
        else:
            self.call = Listener(url, webrtc_id=self.id)
            await self.call.connect(30)

    async def set_input(self, session: aiohttp.ClientSession, number: int, url: str) -> None:
        """Through the one or the other replica; the value belongs to nobody else."""
        value = f"{self.id} {number} {uuid.uuid4().hex}"
        self.sent.append(value)
        body = {"webrtc_id": self.id, "inputs": [value]}
        async with session.post(url + "/input_hook", json=body) as response:
            assert response.status == 200, await response.text()

    async def read(self) -> None:
        """Open the readers; a WebSocket's `start` may still be on its way."""
        for url in self.urls:
            async with asyncio.timeout(30):
                while True:
                    reader = Reader(url + "/outputs", self.id)
                    await reader.opened.wait()
                    if reader.status == 200:
                        break
                    assert reader.status == 404
                    await asyncio.sleep(0.05)
            self.readers.append(reader)

    async def until_last(self) -> None:
        """Both readers have the output of the last input."""
        async with asyncio.timeout(60):
            while not all(
                reader.outputs("output") and self.values(reader)[-1][1] == self.sent[-1]
                for reader in self.readers
            ):
                await asyncio.sleep(0.1)

    def values(self, reader: Reader) -> list[Any]:
        return [json.loads(event.data) for event in reader.outputs("output")]

    async def close(self) -> None:
        for reader in self.readers:
            await reader.close()
        if self.by_socket and self.call is not None:
            await self.call.__aexit__(None, None, None)
        elif self.call is not None:
            await self.call.close()


async def test_a_hundred_users_see_their_own_outputs_only(stack: Stack) -> None:
    """Over WebRTC and WebSocket, sync and async handlers, inputs through both replicas at once."""
    users = [User(stack, number) for number in range(CONNECTIONS)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect(user: User) -> None:
        async with gate:
            await user.connect()
            await user.read()

    async def use(user: User, session: aiohttp.ClientSession) -> None:
        for number in range(ROUNDS):
            await user.set_input(session, number, user.urls[number % 2])
            await asyncio.sleep(0.05)

    try:
        await asyncio.gather(*map(connect, users))
        status = await asyncio.to_thread(stack.status)
        assert {c["connection_id"] for c in status["connections"]} == {user.id for user in users}
        assert len({c["worker_id"] for c in status["connections"]}) == 2
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(use(user, session) for user in users))
        await asyncio.gather(*(user.until_last() for user in users))
        for user in users:
            for reader in user.readers:
                values = user.values(reader)
                assert {owner for owner, _ in values} == {user.id}
                given = [value for _, value in values]
                # inputs that follow fast may be one for the handler, but none comes twice
                assert given == [value for value in user.sent if value in given]
            assert user.values(user.readers[0]) == user.values(user.readers[1])
    finally:
        await asyncio.gather(*(user.close() for user in users))
