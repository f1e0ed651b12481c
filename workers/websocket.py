"""A WebSocket as the transport of a connection: mu-law audio and messages, all as JSON text.

The socket is the control plane's, which passes on the client's frames as they are.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from aiohttp import WSMsgType
from aiohttp.web import WebSocketResponse

from rayrtc.cluster.models import SocketAnswer
from rayrtc.errors import ConnectionClosed
from rayrtc.handlers import StreamHandlerBase
from workers import mulaw
from workers.audio import AudioInput
from workers.media import Media
from workers.outbox import Outbox, messages_ignored
from workers.playback import Playback
from workers.samples import Samples
from workers.transport import Events, Log, Transport

LEAD = 0.1
"""Seconds that audio is sent ahead of time, so that a late frame is no gap at the client."""
SEND_TIMEOUT = 30.0
"""Seconds that a client may take nothing, before it counts as gone."""
CLOSE_TIMEOUT = 2.0
"""Seconds that the closing handshake may take."""


class SocketChannel(Outbox):
    """The `Channel` of a WebSocket.

    Args:
        write: sends one text frame; waits while the client takes none.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[str], Awaitable[None]]
    ) -> None:
        super().__init__(loop)
        self._write = write
        self._filled = asyncio.Event()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self._drain()

    async def flush(self, timeout: float) -> None:
        """Send what is queued, as far as `timeout` seconds allow. `run` has ended."""
        try:
            async with asyncio.timeout(timeout):
                await self._drain()
        except TimeoutError:
            return

    def _transmit(self) -> None:
        self._filled.set()

    async def _drain(self) -> None:
        while (message := self._next()) is not None:
            await self._write(message)


class WebSocket(Transport):
    """A client of `WS /websocket/offer`, whose audio has the handler's own sample rates.

    Args:
        socket: takes and gives the frames that follow the client's `start`.
    """

    websocket = "websocket"

    def __init__(self, socket: WebSocketResponse, events: Events, log: Log) -> None:
        self._socket = socket
        self._events = events
        self._log = log
        self._loop = asyncio.get_running_loop()
        self.channel: SocketChannel = SocketChannel(self._loop, self._write)
        self._input_rate = 0
        self._answered = False
        self._stopped = False

    def check(self) -> None:
        """Nothing: the control plane has looked at the client's `start`."""

    def prepare(self, handler: StreamHandlerBase) -> None:
        self._make_media(handler, handler.input_sample_rate, handler.output_sample_rate)

    def _make_media(self, handler: StreamHandlerBase, input_rate: int, output_rate: int) -> None:
        """Make the buffers for a client that sends and plays at these rates in Hz."""
        self._input_rate = input_rate
        self._input = AudioInput(handler.input_sample_rate, handler.expected_layout)
        self._output = Playback(self._loop, (output_rate,), lead=LEAD)
        self.media = Media(self._input, self._output)

    async def answer(self) -> str:
        """Tell the control plane that the connection is taken."""
        try:
            await self._socket.send_str(SocketAnswer().model_dump_json())
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionClosed("the client went away") from error
        self._answered = True
        return ""

    def start(self) -> None:
        self._events.spawn(self._read())
        self._events.spawn(self.channel.run())
        self._events.connected()

    def receive(self) -> None:
        self._events.spawn(self._play())

    async def close(self) -> None:
        if hasattr(self, "media"):
            self.media.stop()
        if not self._answered:
            return  # who opened the socket tells why and closes it
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.close()
        except (TimeoutError, ConnectionError, RuntimeError) as error:
            self._log.info("the socket did not close in order: %r", error)

    async def _read(self) -> None:
        """Take the client's frames until it goes."""
        while (frame := await self._socket.receive()).type is WSMsgType.TEXT:
            message = _parse(frame.data)
            if message is None or not self._take(message.get("event"), message):
                messages_ignored.inc()
            if self._stopped:
                break
        self._events.closed()

    def _take(self, event: Any, message: dict[str, Any]) -> bool:
        """Do what a frame asks for; whether it was understood."""
        if event == "media":
            return self._take_media(message.get("media"))
        if event == "ping":
            self.channel.send('{"event": "pong"}')
        elif event == "stop":
            self._stopped = True
        else:
            return False
        return True

    def _take_media(self, media: Any) -> bool:
        payload = media.get("payload") if isinstance(media, dict) else None
        if not isinstance(payload, str):
            return False
        try:
            samples = mulaw.decode(base64.b64decode(payload))
        except ValueError:
            return False
        self._input.put(Samples(self._input_rate, 1, samples))
        return True

    async def _play(self) -> None:
        """Send what the handler emits, when it is due."""
        while (chunk := await self._output.next()) is not None:
            await self._write(self._media_message(chunk.pcm))

    def _media_message(self, pcm: bytes) -> str:
        return json.dumps({"event": "media", "media": {"payload": encode(pcm)}})

    async def _write(self, text: str) -> None:
        """Send a frame; waits while the client takes none."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._socket.send_str(text)
        except (TimeoutError, ConnectionError, RuntimeError) as error:
            self._log.info("a frame was not sent: %r", error)
            self._events.closed()


def encode(pcm: bytes) -> str:
    """16-bit samples as base64 of mu-law."""
    samples = np.frombuffer(pcm, np.int16)
    return base64.b64encode(mulaw.encode(samples)).decode("ascii")


def _parse(text: str) -> dict[str, Any] | None:
    """The JSON object of a frame; None for anything else."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
