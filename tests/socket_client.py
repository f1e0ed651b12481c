"""A client of `WS /websocket/offer` and of Twilio Media Streams, as a page or Twilio behaves."""

import asyncio
import base64
import json
import time
import uuid
from types import TracebackType
from typing import Any

import aiohttp
import numpy as np

from tests import mulaw


class SocketClient:
    """Keeps the samples and messages that come; plays a tone when asked to.

    Args:
        url: of the stream, `http://HOST:PORT/PREFIX`.
        rate: Hz of what is sent and received.
        phone: be Twilio.
    """

    def __init__(
        self,
        url: str,
        connection_id: str | None = None,
        *,
        rate: int = 24000,
        phone: bool = False,
    ) -> None:
        self.url = url + ("/telephone/handler" if phone else "/websocket/offer")
        self.id = connection_id or uuid.uuid4().hex
        self.rate = rate
        self.phone = phone
        self.samples: list[np.ndarray] = []
        self.arrivals: list[float] = []
        self.messages: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.closed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "SocketClient":
        self.session = aiohttp.ClientSession()
        try:
            self.socket = await self.session.ws_connect(self.url, headers=self.headers)
        except BaseException:
            await self.session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.socket.close()
        await self.session.close()

    async def send(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def start(self, *, read: bool = True) -> None:
        """Start, and read what comes unless told not to."""
        if self.phone:
            await self.send(event="connected", protocol="Call", version="1.0.0")
            start = {"streamSid": self.id, "tracks": ["inbound"]}
            await self.send(event="start", start=start, streamSid=self.id)
        else:
            await self.send(event="start", websocket_id=self.id)
        if read:
            self._tasks.append(asyncio.create_task(self._read()))

    async def start_with(self, frames: list[dict[str, Any]], sid: str) -> None:
        """Send recorded frames in real time, 20 ms each, as those of the stream `sid`."""
        self._tasks.append(asyncio.create_task(self._read()))
        for frame in frames:
            await self.socket.send_str(json.dumps(frame).replace("STREAM_SID", sid))
            await asyncio.sleep(0.02)

    def play(self, frequency: float = 440.0) -> None:
        """Send a tone in real time, from now on."""
        self._tasks.append(asyncio.create_task(self._play(frequency)))

    async def send_audio(self, samples: np.ndarray) -> None:
        payload = base64.b64encode(mulaw.encode(samples.astype(np.int16))).decode()
        if self.phone:
            await self.send(event="media", streamSid=self.id, media={"payload": payload})
        else:
            await self.send(event="media", media={"payload": payload})

    async def wait_for_message(self, type: str, timeout: float = 10) -> dict[str, Any]:
        return await self._wait(self.messages, "type", type, timeout)

    async def wait_for_event(self, event: str, timeout: float = 10) -> dict[str, Any]:
        return await self._wait(self.events, "event", event, timeout)

    async def wait_closed(self, timeout: float = 10) -> int | None:
        """The code that the server closed with."""
        async with asyncio.timeout(timeout):
            await self.closed.wait()
        return self.socket.close_code

    def heard(self) -> np.ndarray:
        return np.concatenate(self.samples) if self.samples else np.zeros(0, np.int16)

    def peak(self, seconds: float = 1.0) -> float:
        """Hz of the strongest tone in the last `seconds`."""
        samples = self.heard()[-round(seconds * self.rate) :]
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        return float(spectrum.argmax() * self.rate / len(samples))

    async def wait_for_audio(self, seconds: float, timeout: float = 15) -> None:
        async with asyncio.timeout(timeout):
            while len(self.heard()) < seconds * self.rate:
                await asyncio.sleep(0.02)

    async def _wait(
        self, within: list[dict[str, Any]], key: str, value: str, timeout: float
    ) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            while True:
                for message in within:
                    if message.get(key) == value:
                        return message
                await asyncio.sleep(0.02)

    async def _play(self, frequency: float) -> None:
        size = self.rate // 50
        begin = time.monotonic()
        for count in range(1 << 30):
            await asyncio.sleep(max(0.0, begin + count * 0.02 - time.monotonic()))
            at = np.arange(count * size, (count + 1) * size) / self.rate
            await self.send_audio(np.sin(2 * np.pi * frequency * at) * 12000)

    async def _read(self) -> None:
        async for frame in self.socket:
            message = json.loads(frame.data)
            if message.get("event") == "media":
                data = base64.b64decode(message["media"]["payload"])
                self.samples.append(mulaw.decode(data))
                self.arrivals.append(time.monotonic())
            if "event" in message:
                self.events.append(message)
            else:
                self.messages.append(message)
            if self.phone and message.get("event") == "mark":
                await self.send(event="mark", streamSid=self.id, mark=message["mark"])
        self.closed.set()


class SocketMicrophone:
    """Sends what it is told to say in real time, and room noise of -66 dB else.

    Args:
        client: has started.
    """

    def __init__(self, client: SocketClient) -> None:
        self._client = client
        self._saying = np.zeros(0)
        self._said = asyncio.Event()

    async def __aenter__(self) -> "SocketMicrophone":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def say(self, samples: np.ndarray) -> None:
        """Play `samples`, at the client's rate; returns when they were sent."""
        self._said.clear()
        self._saying = samples.astype(float)
        await self._said.wait()

    async def _run(self) -> None:
        size = self._client.rate // 50
        begin = time.monotonic()
        for count in range(1 << 30):
            await asyncio.sleep(max(0.0, begin + count * 0.02 - time.monotonic()))
            samples = np.random.default_rng(count).normal(0, 16, size)
            if len(self._saying):
                spoken, self._saying = self._saying[:size], self._saying[size:]
                samples[: len(spoken)] = spoken
                if not len(self._saying):
                    self._said.set()
            await self._client.send_audio(samples)
