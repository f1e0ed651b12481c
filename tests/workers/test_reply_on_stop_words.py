"""`ReplyOnStopWords` in a call, with real voice detection and a scripted recogniser."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import numpy as np
import pytest

from rayrtc import HeardStopWord, ReplyOnStopWords
from tests.clients import AiortcClient
from tests.socket_client import SocketMicrophone
from tests.speech import Microphone, recording, tone
from tests.workers import test_websocket
from tests.workers.host import handler_threads, hosting, until

pytestmark = pytest.mark.timeout(240)
TURN = ["started_talking", "pause_detected", "response_starting"]
PIECE = (24000, tone(0.1, rate=24000).reshape(1, -1))
WORD = 0.5
"""Seconds of speech that the recogniser takes for the word."""
Transport = Literal["webrtc", "websocket", "telephone"]


class Scripted:
    """Hears the word in the first half second of speech, 0.2 s later."""

    def __init__(self, stop_words: Sequence[str]) -> None:
        self.word = stop_words[0]
        self.reset()

    def hear(self, audio: tuple[int, np.ndarray]) -> HeardStopWord | None:
        rate, samples = audio
        self.seconds += (self.seconds > 0 or np.abs(samples).max() > 2000) * len(samples) / rate
        return HeardStopWord(self.word, 0.2) if self.seconds >= WORD + 0.2 else None

    def reset(self) -> None:
        self.seconds = 0.0


class Conversation:
    """What the two sides have said and heard."""

    def __init__(self) -> None:
        self.said: list[float] = []  # seconds of each utterance that was replied to
        self.finished = 0

    def reply(self, audio: tuple[int, np.ndarray]) -> Iterator[Any]:
        self.said.append(audio[1].size / audio[0])
        try:
            while True:
                yield PIECE
        finally:
            self.finished += 1


@asynccontextmanager
async def talking(handler: Any, transport: Transport) -> AsyncIterator[tuple[Any, Any, int]]:
    """A client, its microphone and the rate of it."""
    if transport != "webrtc":
        phone = transport == "telephone"
        async with (
            test_websocket.calling(handler, phone=phone, rate=48000) as (client, _),
            SocketMicrophone(client) as microphone,
        ):
            yield client, microphone, client.rate
        return
    client = AiortcClient("")
    client.tone = microphone = Microphone()
    async with hosting(handler) as host:
        try:
            await host.call(client)
            await asyncio.sleep(0.3)
            yield client, microphone, 48000
        finally:
            await client.close()


def heard_of(client: Any, kind: str) -> list[str]:
    return [message["data"] for message in client.messages if message["type"] == kind]


async def converse(transport: Transport) -> None:
    made = Conversation()
    handler = ReplyOnStopWords(made.reply, ["hey llama"], recognition=Scripted)
    async with talking(handler, transport) as (client, microphone, rate):
        request = recording("weather", rate)  # the "word", and 1.3 s that belong to the request
        for turn in (1, 2):
            await microphone.say(request)
            await until(lambda turn=turn: heard_of(client, "log") == TURN * turn, 10)
            assert heard_of(client, "stopword") == ["hey llama"] * turn
            kinds = [m["type"] for m in client.messages if m["type"] in ("stopword", "log")]
            assert kinds == ["stopword", "log", "log", "log"] * turn
            assert made.finished == turn - 1, "the second word ended the first reply"
            loud = sum(np.abs(samples).max() > 1000 for samples in client.samples)
            await until(
                lambda loud=loud: (
                    sum(np.abs(samples).max() > 1000 for samples in client.samples) > loud + 10
                )
            )
        for seconds in made.said:
            rest = len(request) / rate - WORD
            assert rest - 0.1 < seconds < rest + 2.0, "without the word, with all that follows it"
    assert made.finished == 2


async def test_the_word_then_a_request_then_the_reply() -> None:
    async with asyncio.TaskGroup() as calls:
        for transport in ("webrtc", "websocket", "telephone"):
            calls.create_task(converse(transport))
    await until(lambda: handler_threads() == 0)


async def test_a_pause_after_the_word_is_no_request() -> None:
    made = Conversation()
    handler = ReplyOnStopWords(made.reply, ["computer"], recognition=Scripted)
    async with talking(handler, "webrtc") as (client, microphone, rate):
        await microphone.say(recording("weather", rate)[: round(WORD * rate)])
        await asyncio.sleep(2.2)
        assert heard_of(client, "stopword") == ["computer"]
        assert heard_of(client, "log") == []
        await microphone.say(recording("story", rate))
        await until(lambda: heard_of(client, "log") == TURN)
        assert len(made.said) == 1
        assert heard_of(client, "stopword") == ["computer"]
