"""A WebSocket as the transport of a connection: mu-law audio and messages, all as JSON text.

The socket is the control plane's, which passes on the client's frames as they are.
"""

import asyncio
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from pydantic_core import from_json

from rayrtc import mulaw
from rayrtc.cluster.models import SocketAnswer
from rayrtc.errors import ConnectionClosed
from rayrtc.handlers import StreamHandlerBase
from workers.audio import AudioInput
from workers.frame_socket import FrameSocket
from workers.media import Media
from workers.outbox import Outbox, messages_ignored
from workers.pacer import TICK, pacer_of
from workers.playback import Chunk, Playback
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
        send: sends one text frame.
        has_room: waits while the client takes none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[bytes], None],
        has_room: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(loop)
        self._send = send
        self._has_room = has_room
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

    def send_queued(self) -> None:
        """Send what is queued, 256 messages at most: what follows must not overtake it."""
        while (message := self._next()) is not None:
            self._send(message.encode())

    def _transmit(self) -> None:
        self._filled.set()

    async def _drain(self) -> None:
        while (message := self._next()) is not None:
            self._send(message.encode())
            await self._has_room()


class WebSocket(Transport):
    """A client of `WS /websocket/offer`, whose audio has the handler's own sample rates.

    Args:
        socket: takes and gives the frames that follow the client's `start`.
    """

    websocket = "websocket"
    _media_head = b'{"event": "media", "media": {"payload": "'
    """What precedes the samples of a message."""

    def __init__(self, socket: FrameSocket, events: Events, log: Log) -> None:
        self._socket = socket
        self._events = events
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._pacer = pacer_of(self._loop)
        self._next: float | None = None  # time of the pacer's next call
        self._waits_for_room = False
        self.channel: SocketChannel = SocketChannel(self._loop, self._send, self._has_room)
        self._input_rate = 0
        self._answered = False

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
            self._socket.send(SocketAnswer().model_dump_json().encode())
        except ConnectionError as error:
            raise ConnectionClosed("the client went away") from error
        self._answered = True
        return ""

    def start(self) -> None:
        self._socket.listen(self._received, self._events.closed)
        self._events.spawn(self.channel.run())
        self._events.connected()

    def receive(self) -> None:
        self._output.on_filled(self._play)
        self._play()

    async def close(self) -> None:
        if hasattr(self, "media"):
            self.media.stop()
        if self._answered:  # else who opened the socket tells why and closes it
            await self._socket.close(CLOSE_TIMEOUT)

    # what the client sends

    def _received(self, message: bytes) -> None:
        """Take a client's message."""
        try:
            parsed = from_json(message)
        except ValueError:
            parsed = None
            if not _is_utf8(message):
                self._socket.fail_decoding()
        if not isinstance(parsed, dict) or not self._take(parsed.get("event"), parsed):
            messages_ignored.inc()

    def _take(self, event: Any, message: dict[str, Any]) -> bool:
        """Do what a message asks for; whether it was understood."""
        if event == "media":
            return self._take_media(message.get("media"))
        if event == "ping":
            self.channel.send('{"event": "pong"}')
        elif event == "stop":
            self._events.closed()
        else:
            return False
        return True

    def _take_media(self, media: Any) -> bool:
        payload = media.get("payload") if isinstance(media, dict) else None
        if not isinstance(payload, str):
            return False
        try:
            samples = mulaw.decode(a2b_base64(payload))
        except ValueError:
            return False
        self._input.put(Samples(self._input_rate, 1, samples))
        return True

    # what it is sent

    def _play(self) -> None:
        """Send what the handler has emitted and is due, unless the client takes nothing."""
        if self._waits_for_room:
            return
        while (chunk := self._output.take(time.monotonic())) is not None:
            self.channel.send_queued()
            self._send_audio(chunk)
            if self._socket.full:
                self._waits_for_room = True
                self._events.spawn(self._play_on())
                return
            if self._output.next_at is None:  # nothing is left
                break
        when = self._output.next_at
        if when is not None and (self._next is None or when < self._next - TICK):
            self._next = when
            self._pacer.at(when, self._tick)

    def _tick(self, _: float) -> None:
        self._next = None
        self._play()

    async def _play_on(self) -> None:
        """Go on when the client takes more."""
        if await self._has_room():
            self._waits_for_room = False
            self._play()

    def _send_audio(self, chunk: Chunk) -> None:
        self._send(self._media_message(chunk.pcm))

    def _media_message(self, pcm: bytes) -> bytes:
        samples = b2a_base64(mulaw.encode(np.frombuffer(pcm, np.int16)), newline=False)
        return self._media_head + samples + b'"}}'

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except ConnectionError as error:
            self._log.info("a message was not sent: %r", error)
            self._events.closed()

    async def _has_room(self) -> bool:
        """Wait until the client takes more; whether it does in time."""
        if not self._socket.full:
            return True
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._socket.room()
        except (TimeoutError, ConnectionError) as error:
            self._log.info("the client takes nothing: %r", error)
            self._events.closed()
            return False
        return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
