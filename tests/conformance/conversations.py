"""Calls in which words are spoken to `ReplyOnPause` and `ReplyOnStopWords`.

Each raises when the replies are not as they should be.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import av
import numpy as np

from tests.clients import AiortcClient
from tests.conformance.call import TRANSPORTS, Call, Transport, request
from tests.conformance.calls import local
from tests.socket_client import SocketClient
from tests.speech import Microphone, recording

TURN = ["started_talking", "pause_detected", "response_starting"]
TIMEOUT = 30.0


class Conversation(Call):
    """A call in which words are spoken; it answers `send_input` with `seconds`.

    Args:
        rate: Hz of what comes.
    """

    def __init__(
        self, url: str, client: AiortcClient | SocketClient, microphone: Microphone, rate: int
    ) -> None:
        super().__init__(url, client)
        self.microphone = microphone
        self.rate = rate
        self.seconds: float | None = None
        self._loud = self._counted = 0

    @property
    def logs(self) -> list[str]:
        return [message["data"] for message in self.messages if message.get("type") == "log"]

    @property
    def heard(self) -> int:
        """How many samples of all that have come are sound."""
        new = self.client.samples[self._counted :]
        self._counted += len(new)
        self._loud += sum(int((np.abs(samples.astype(int)) > 1000).sum()) for samples in new)
        return self._loud

    async def say(self, name: str, seconds: float | None = None) -> None:
        """Speak, and have the reply last so many seconds."""
        self.seconds = seconds
        if seconds is not None and getattr(self.client, "phone", False):
            await self.post()  # a phone is not asked
        async with asyncio.timeout(TIMEOUT):
            await self.microphone.say(recording(name))

    async def until(self, *logs: str) -> None:
        """Wait for these logs, in this order and before any other."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.logs) < len(logs):
                await asyncio.sleep(0.02)
        assert self.logs[: len(logs)] == list(logs)

    async def until_playing(self, seconds: float) -> None:
        """Wait for so much sound from now on."""
        before, wanted = self.heard, 0.6 * seconds * self.rate
        try:
            async with asyncio.timeout(TIMEOUT):
                while self.heard - before < wanted:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            lacking = wanted - self.heard + before
            raise AssertionError(f"{lacking} samples lacking; {self.messages[-8:]}") from None

    async def answer(self) -> None:
        """Post the inputs whenever they are asked for."""
        for count in itertools.count(1):
            while sum(message.get("type") == "send_input" for message in self.messages) < count:
                await asyncio.sleep(0.02)
            await self.post()

    async def post(self) -> None:
        body = {"webrtc_id": self.id, "inputs": [self.seconds]}
        assert (await request("POST", self.url + "/input_hook", json=body))[0] == 200


@asynccontextmanager
async def talking(base_url: str, prefix: str, transport: Transport) -> AsyncIterator[Conversation]:
    url, microphone = base_url + prefix, Microphone()
    if transport == "webrtc":
        client = AiortcClient(url, loopback=local(base_url))
        client.tone = microphone
        call = Conversation(url, client, microphone, 48000)
        try:
            await client.connect()
            async with answering(call):
                yield call
        finally:
            await client.close()
        return
    phone = transport == "telephone"
    async with SocketClient(url, rate=8000 if phone else 48000, phone=phone) as socket:
        call = Conversation(url, socket, microphone, 8000 if phone else 24000)
        await socket.start()
        async with answering(call, speak(socket, microphone)):
            yield call


@asynccontextmanager
async def answering(call: Conversation, *more: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:  # what fails there ends the block
        tasks = [group.create_task(work) for work in (call.answer(), *more)]
        await asyncio.sleep(0.3)
        yield
        for task in tasks:
            task.cancel()


async def speak(socket: SocketClient, microphone: Microphone) -> None:
    """Send what the microphone hears."""
    resampler = av.AudioResampler("s16", "mono", socket.rate)
    while True:
        for frame in resampler.resample(await microphone.recv()):
            await socket.send_audio(frame.to_ndarray())


async def turns(base_url: str, transport: Transport) -> None:
    """Words, pause, inputs, reply; speech over a reply ends it."""
    async with talking(base_url, "/reply", transport) as call:
        await call.say("weather", 0.6)
        await call.until_playing(0.4)
        assert call.logs == TURN
        _, latest = await call.latest()
        seconds, heard = latest["args"]
        assert seconds == 0.6
        assert 1.5 < heard < 5
        await call.say("story", 10.0)
        await call.until(*TURN * 2)
        await call.until_playing(0.5)
        await call.say("weather", 1.0)
        before = call.heard
        await call.until(*TURN * 2, *TURN[:2])
        # speech has ended the reply when it began, not at its pause
        assert call.heard - before < 0.2 * call.rate
        await call.until(*TURN * 3)
        await call.until_playing(0.2)
        if transport == "telephone":
            await call.client.wait_for_event("clear")
            await call.client.wait_for_event("mark")


async def uninterrupted(base_url: str) -> None:
    """With `can_interrupt=False` a reply is played to its end, what is said meanwhile is lost."""
    async with talking(base_url, "/reply-uninterrupted", "webrtc") as call:
        await call.say("weather", 4.0)
        await call.until_playing(0.3)
        await call.say("story")
        assert call.logs == TURN
        async with asyncio.timeout(TIMEOUT):
            while call.heard / call.rate < 0.85 * 4.0:  # a sine is below the level at times
                await asyncio.sleep(0.02)
        assert call.logs == TURN
        await asyncio.sleep(1.0)
        await call.say("weather", 0.4)
        await call.until(*TURN * 2)


async def stop_word(base_url: str) -> None:
    """Only after its word there is a reply, to what was said with the word in one breath."""
    async with talking(base_url, "/stop-words", "webrtc") as call:
        await call.say("weather")
        await asyncio.sleep(1.0)
        assert call.logs == []
        for _ in range(3):  # not each word is heard (docs/stop_words.md), or not what follows it
            await call.say("computer", 0.5)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(8):
                    await call.until(TURN[0])
                    break
        assert (await call.message("stopword"))["data"] == "computer"
        await call.until_playing(0.3)
        assert call.logs == TURN


CONVERSATIONS: dict[str, Callable[[str], Awaitable[None]]] = {
    **{f"turns/{transport}": partial(turns, transport=transport) for transport in TRANSPORTS},
    "can_interrupt=False": uninterrupted,
    "stop word": stop_word,
}
