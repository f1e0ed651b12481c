"""Messages to and from a client that is slow, absent or hostile."""

import asyncio
import json
import threading
from typing import Any

from rayrtc import AdditionalOutputs
from rayrtc.cluster.keys import Keys
from rayrtc.cluster.outputs import OutputWriter
from rayrtc.cluster.redis import RedisPools
from rayrtc.settings import Settings
from tests.workers.host import AsyncEcho, Echo, calling, hosting, until
from workers import channel as module
from workers import outbox
from workers.connection import State


async def test_messages_wait_for_the_client_to_open_its_channel_and_the_oldest_are_dropped() -> (
    None
):
    class Early(Echo):
        def start_up(self) -> None:
            for number in range(outbox.MAX_PENDING + 10):
                self.send_message_sync(json.dumps({"type": "log", "data": number}))

    async with hosting(Early()) as host, calling(host, data_channel=False) as (_, connection):
        await until(lambda: len(connection._channel._pending) == outbox.MAX_PENDING)
        assert json.loads(connection._channel._pending[0])["data"] == 10


async def test_threads_may_send_at_once() -> None:
    class Chatty(Echo):
        def start_up(self) -> None:
            threads = [threading.Thread(target=self.talk, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        def talk(self, number: int) -> None:
            for count in range(25):
                self.send_message_sync(json.dumps({"type": "log", "data": [number, count]}))

    async with hosting(Chatty()) as host, calling(host) as (client, _):
        await until(lambda: len(client.messages) == 200)
        for number in range(8):
            own = [m["data"][1] for m in client.messages if m["data"][0] == number]
            assert own == list(range(25))


async def test_bytes_and_long_messages_of_a_client_are_ignored_and_counted() -> None:
    before = outbox.messages_ignored._value.get()
    async with hosting(AsyncEcho()) as host, calling(host) as (client, connection):
        await until(lambda: client.channel.readyState == "open")
        client.channel.send(b"\xff" * 100)
        connection._channel._received("x" * (module.MAX_INCOMING_BYTES + 1))
        client.channel.send("after")
        message = await client.wait_for_message("log")
        assert message["data"] == "Server received: after"
        assert outbox.messages_ignored._value.get() - before == 2
        assert connection.state is State.CONNECTED


async def test_a_message_that_the_client_cannot_take_is_dropped_and_the_next_arrives() -> None:
    async with hosting(AsyncEcho()) as host, calling(host) as (client, connection):
        connection._channel.send("x" * (1 << 20))
        connection._channel.send(json.dumps({"type": "log", "data": "next"}))
        assert (await client.wait_for_message("log"))["data"] == "next"


async def test_outputs_are_in_redis_when_the_client_is_told(redis_url: str) -> None:
    class Counting(AsyncEcho):
        def __init__(self) -> None:
            super().__init__()
            self.numbers = iter(range(5))

        async def emit(self) -> Any:
            number = next(self.numbers, None)
            if number is None:
                return await super().emit()
            return AdditionalOutputs(number)

    settings = Settings(redis_url=redis_url)
    pools = RedisPools(settings)
    writer = OutputWriter(pools.commands, settings)
    writing = asyncio.create_task(writer.run())
    try:
        async with hosting(Counting(), outputs=writer) as host:
            async with calling(host) as (client, connection):
                await client.wait_for_message("fetch_output")
                await until(lambda: len(client.messages) == 5)
                key = Keys(settings.cluster).outputs(connection.id)
                assert await pools.commands.xlen(key) == 5
            await until(lambda: not len(host.connections))
            await writer.flush(2)
            (_, last), *_ = await pools.commands.xrevrange(key, count=1)
            assert "client_closed" in {str(v) for v in last.values()}
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await pools.aclose()
