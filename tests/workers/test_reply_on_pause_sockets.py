"""`ReplyOnPause` over WebSocket and telephone: the turns are those of a WebRTC call."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

from rayrtc import ReplyOnPause
from tests.socket_client import SocketMicrophone
from tests.speech import recording, tone
from tests.workers.host import handler_threads, until
from tests.workers.test_websocket import WorkerClient, calling

TURN = ["started_talking", "pause_detected", "response_starting"]
PIECE = (24000, tone(0.1, rate=24000).reshape(1, -1))


def logs(client: WorkerClient) -> list[str]:
    return [message["data"] for message in client.messages if message["type"] == "log"]


def clears(client: WorkerClient) -> list[dict[str, Any]]:
    return [event for event in client.events if event["event"] == "clear"]


class Endless:
    """Reply functions that never stop of themselves, and what happened to them."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.finished = 0

    def sync(self, audio: tuple[int, np.ndarray]) -> Iterator[Any]:
        self.heard.append(audio[1].size / audio[0])
        try:
            while True:
                yield PIECE
        finally:
            self.finished += 1

    async def asynchronous(self, audio: tuple[int, np.ndarray]) -> AsyncIterator[Any]:
        self.heard.append(audio[1].size / audio[0])
        try:
            while True:
                yield PIECE
        finally:
            self.finished += 1


class Sent:
    """Counts the packets of a connection, and those before playback was cleared first."""

    def __init__(self, client: WorkerClient) -> None:
        self.count = 0
        self.before_clear: int | None = None
        transport: Any = client.connection._transport
        handler: Any = client.connection._handler
        clear, message = handler._clear_queue, transport._media_message

        def counting_clear() -> None:
            clear()
            if self.before_clear is None:
                self.before_clear = self.count

        def counting_message(pcm: bytes) -> bytes:
            self.count += 1
            sent: bytes = message(pcm)
            return sent

        handler._clear_queue, transport._media_message = counting_clear, counting_message


async def interrupt(kind: str, phone: bool) -> None:
    replies = Endless()
    handler = ReplyOnPause(getattr(replies, kind))
    async with calling(handler, phone=phone) as (client, _), SocketMicrophone(client) as microphone:
        await microphone.say(recording("weather", client.rate))
        await until(lambda: len(logs(client)) == 3)
        await until(lambda: len(client.samples) > 20)
        assert (len(replies.heard), replies.finished) == (1, 0)
        assert clears(client) == [], "nothing had been played"
        sent = Sent(client)
        await microphone.say(recording("story", client.rate))
        assert replies.finished == 1
        assert sent.before_clear is not None
        assert sent.count - sent.before_clear <= 1, "one packet was under way"
        await until(lambda: len(logs(client)) == 6)
        await until(lambda: sent.count > sent.before_clear + 5)
        assert logs(client) == TURN * 2
        assert len(replies.heard) == 2
        assert replies.heard[1] < 1.3 + 2.3, "the interrupted utterance was told again"
        clear = {"event": "clear", "streamSid": client.id}
        assert all(event == clear for event in clears(client))
        # the second one is for the packet that was under way
        assert len(clears(client)) in ((1, 2) if phone else (0,))
    assert replies.finished == 2


async def test_speech_is_answered_and_ends_the_answer() -> None:
    """Defect 9; both kinds of generators over both transports, at once."""
    async with asyncio.TaskGroup() as calls:
        for kind in ("sync", "asynchronous"):
            for phone in (False, True):
                calls.create_task(interrupt(kind, phone))
    await until(lambda: handler_threads() == 0)


async def hold(phone: bool) -> None:
    calls = 0

    def reply(audio: Any) -> Any:
        nonlocal calls
        calls += 1
        return 24000, tone(2.0, rate=24000)  # generated at once, played for 2 s

    handler = ReplyOnPause(reply, can_interrupt=False)
    async with calling(handler, phone=phone) as (client, _), SocketMicrophone(client) as microphone:
        await microphone.say(recording("story", client.rate))
        await until(lambda: len(logs(client)) == 3)
        await microphone.say(recording("story", client.rate))  # 1.3 s
        assert len(client.heard()) < 2 * client.rate, "not within the reply: this machine is slow"
        await until(lambda: len(client.heard()) >= 2 * client.rate)
        assert logs(client) == TURN
        assert clears(client) == []
        await until(lambda: not client.connection._handler.playing)  # type: ignore[union-attr]
        await microphone.say(recording("story", client.rate))
        await until(lambda: logs(client) == TURN * 2)
        assert calls == 2


async def test_a_reply_that_may_not_be_interrupted_is_played_to_its_end() -> None:
    """Defect 10: FastRTC listens again when the reply was made, 1.8 s before its playback ends."""
    async with asyncio.TaskGroup() as calls:
        for phone in (False, True):
            calls.create_task(hold(phone))


async def test_a_caller_hears_the_reply_until_twilio_says_that_it_was_played() -> None:
    """A handler that may not be interrupted would else listen while Twilio still plays."""

    class Slow(WorkerClient):
        """Twilio with a buffer that is 0.6 s behind."""

        async def send(self, **message: Any) -> None:
            if message["event"] == "mark":
                await asyncio.sleep(0.3)
            await super().send(**message)

    def greet() -> Any:
        return 24000, tone(0.2, rate=24000)

    handler = ReplyOnPause(lambda audio: None, startup_fn=greet)
    async with calling(handler, phone=True, client=Slow) as (client, _):
        await client.wait_for_event("mark")
        transport = client.connection._transport
        await until(lambda: not transport.media.playing)
        assert transport.playing
        await until(lambda: not transport.playing)
        transport.clear()
        await asyncio.sleep(0.1)
        assert clears(client) == [], "there was nothing to forget"
