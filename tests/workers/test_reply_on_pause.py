"""`ReplyOnPause` in a call: what a caller says, hears and is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from rayrtc import AdditionalOutputs, ReplyOnPause
from tests.clients import AiortcClient
from tests.speech import UTTERANCES, Microphone, noise, recording, tone
from tests.workers.host import Host, handler_threads, hosting, peak, until

pytestmark = pytest.mark.timeout(240)
PIECE = (24000, tone(0.1, rate=24000).reshape(1, -1))


@asynccontextmanager
async def talking(host: Host) -> AsyncIterator[tuple[AiortcClient, Microphone]]:
    """A connected client with a microphone."""
    client = AiortcClient("")
    client.tone = microphone = Microphone()
    try:
        await host.call(client)
        await asyncio.sleep(0.3)
        yield client, microphone
    finally:
        await client.close()


def logs(client: AiortcClient) -> list[str]:
    return [message["data"] for message in client.messages if message["type"] == "log"]


def asked(client: AiortcClient) -> int:
    """How often the client was asked for its inputs."""
    return sum(message["type"] == "send_input" for message in client.messages)


def loud_since(client: AiortcClient, since: float) -> list[float]:
    """When sound arrived after `since`."""
    heard = zip(client.samples, client.arrivals, strict=True)
    return [at for samples, at in heard if at > since and np.abs(samples).max() > 1000]


TURN = ["started_talking", "pause_detected", "response_starting"]


async def test_one_reply_to_each_utterance_and_none_to_noise_and_tones() -> None:
    said: list[tuple[int, np.ndarray]] = []

    def reply(audio: tuple[int, np.ndarray]) -> Iterator[Any]:
        said.append(audio)
        yield PIECE
        yield AdditionalOutputs(len(said))

    async with hosting(ReplyOnPause(reply)) as host, talking(host) as (client, microphone):
        for turn in range(4):
            await microphone.say(recording(UTTERANCES[turn % 3]))
            await until(lambda turn=turn: len(logs(client)) == 3 * (turn + 1))
            await asyncio.sleep(0.5)
        assert logs(client) == TURN * 4
        assert [output for _, _, output in host.recorder.outputs] == [f"[{n}]" for n in range(1, 5)]
        for turn, (rate, samples) in enumerate(said):
            assert samples.shape == (1, samples.size)
            assert samples.dtype == np.int16
            spoken = len(recording(UTTERANCES[turn % 3])) / 48000
            assert spoken <= samples.size / rate <= spoken + 2.0
            # the beginning is not cut off: there is some room noise before it
            assert np.abs(samples[0, : rate // 50]).max() < 1000
        assert peak(client, 0.5) == pytest.approx(440, abs=5)

        for sound in (noise(2.0), noise(1.0, level=0.3), tone(2.0), tone(1.5, 200.0)):
            await microphone.say(sound)
            await asyncio.sleep(0.7)
        assert logs(client) == TURN * 4
    await until(lambda: handler_threads() == 0)


class Endless:
    """Reply functions that never stop of themselves, and what happened to them."""

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0

    def sync(self, audio: Any) -> Iterator[Any]:
        self.started += 1
        try:
            while True:
                yield PIECE
        finally:
            self.finished += 1

    async def asynchronous(self, audio: Any) -> AsyncIterator[Any]:
        self.started += 1
        try:
            async with asyncio.timeout(100):  # fails unless one task runs the whole generator
                while True:
                    yield PIECE
        finally:
            self.finished += 1

    async def in_one_piece(self, audio: Any) -> Any:
        self.started += 1
        try:
            return 24000, tone(30.0, rate=24000)
        finally:
            self.finished += 1


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "in_one_piece"])
async def test_speech_silences_the_reply_at_once(kind: str) -> None:
    """Defect 9: FastRTC waits for the pause of the new speech, and plays on until then."""
    replies = Endless()
    handler = ReplyOnPause(getattr(replies, kind))
    async with hosting(handler) as host, talking(host) as (client, microphone):
        await microphone.say(recording("story"))
        for turn in range(1, 3):
            await until(lambda turn=turn: replies.started == turn)
            await asyncio.sleep(0.8)
            before = time.monotonic()
            assert loud_since(client, before - 0.2), "the reply is not heard"
            await microphone.say(recording("weather"))
            last = max(loud_since(client, before))
            silent = last - microphone.began
            print(f"{kind}: silent at the client {silent * 1000:.0f} ms after speech began")
            assert last < microphone.ended - 1.0, "silent only after the speech"
            await until(lambda turn=turn: replies.finished >= turn)
        await until(lambda: replies.started == 3)
        await until(lambda: logs(client) == TURN * 3)
    assert replies.started == replies.finished == 3
    await until(lambda: handler_threads() == 0)


async def test_a_reply_that_waits_is_cancelled_and_heard_of_once() -> None:
    """The await inside of an async generator ends, not only the generator."""
    heard: list[float] = []
    ended: list[str] = []

    async def reply(audio: tuple[int, np.ndarray]) -> AsyncIterator[Any]:
        heard.append(audio[1].size / audio[0])
        try:
            await asyncio.sleep(60)  # an answer that is long in coming
            yield PIECE
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            ended.append("finally")

    async with hosting(ReplyOnPause(reply)) as host, talking(host) as (_, microphone):
        await microphone.say(recording("weather"))
        await until(lambda: len(heard) == 1)
        assert not ended
        await microphone.say(recording("story"))
        assert ended == ["cancelled", "finally"]
        await until(lambda: len(heard) == 2)
        assert heard[1] < 1.3 + 2.0, "the interrupted utterance was told again"
    assert ended == ["cancelled", "finally"] * 2


async def test_a_reply_that_may_not_be_interrupted_is_deaf_until_playback_has_ended() -> None:
    """Defect 10: FastRTC listens again when the last audio was generated, 2 s too early."""
    calls = 0

    def reply(audio: Any) -> Any:
        nonlocal calls
        calls += 1
        return 24000, tone(3.0, rate=24000)  # generated at once, played for 3 s

    handler = ReplyOnPause(reply, can_interrupt=False)
    async with hosting(handler) as host, talking(host) as (client, microphone):
        await microphone.say(recording("story"))
        await until(lambda: len(logs(client)) == 3)
        started = time.monotonic()
        await asyncio.sleep(0.2)
        await microphone.say(recording("weather"))  # over by 2 s
        await asyncio.sleep(max(0, started + 3.3 - time.monotonic()))
        assert len(loud_since(client, started)) > 140, "the reply was cut"
        assert logs(client) == TURN
        await microphone.say(recording("story"))
        await until(lambda: calls == 2 and len(logs(client)) >= 5)
        assert logs(client)[3:5] == TURN[:2]


async def test_each_turn_asks_for_inputs_and_the_function_gets_them() -> None:
    got: list[Any] = []

    def reply(audio: Any, word: str, times: int = 1) -> Any:
        got.append((word, times))
        return PIECE

    async with hosting(ReplyOnPause(reply)) as host, talking(host) as (client, microphone):
        connection = host.connections._connections[client.webrtc_id]
        for turn in (1, 2):
            await microphone.say(recording("story"))
            await until(
                lambda turn=turn: sum(m["type"] == "send_input" for m in client.messages) == turn
            )
            assert len(got) == turn - 1, "it did not wait"
            connection._handler.set_args([f"word {turn}", turn])
            await until(lambda turn=turn: len(got) == turn)
            await until(lambda turn=turn: len(logs(client)) == 3 * turn)
            await asyncio.sleep(0.3)
    assert got == [("word 1", 1), ("word 2", 2)]


async def test_an_exception_is_told_and_the_next_turn_works() -> None:
    calls = 0

    async def reply(audio: Any) -> AsyncIterator[Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("no idea")
        yield PIECE

    async with hosting(ReplyOnPause(reply)) as host, talking(host) as (client, microphone):
        await microphone.say(recording("story"))
        assert (await client.wait_for_message("error"))["message"] == "no idea"
        await microphone.say(recording("story"))
        await until(lambda: logs(client) == [*TURN[:2], *TURN])
