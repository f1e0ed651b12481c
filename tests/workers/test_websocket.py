"""Connections over WebSocket as the control plane opens them, without the control plane."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp
import numpy as np
import pytest

from rayrtc import AdditionalOutputs, CloseStream, get_current_context
from rayrtc.cluster.models import EndReason, InputEntry, SocketAnswer, SocketRequest
from tests.socket_client import SocketClient
from tests.workers.host import AsyncEcho, Echo, Host, handler_threads, hosting, until
from tests.workers.speaker import Speaker, speaker, tone
from tests.workers.test_server import SECRET
from workers import websocket as module
from workers.connection import Connection, State
from workers.outbox import messages_ignored
from workers.server import WorkerServer

TRANSPORTS = pytest.mark.parametrize("phone", [False, True], ids=["websocket", "telephone"])


class WorkerClient(SocketClient):
    """A client whose frames the control plane passes on."""

    def __init__(self, host: Host, port: int, **options: Any) -> None:
        super().__init__("", **options)
        self.url = f"http://127.0.0.1:{port}/v1/websocket"
        self.headers = {"Authorization": f"Bearer {SECRET}"}
        self.host = host

    async def request(self, session: int | None = None) -> SocketAnswer:
        if session is None:
            self.host.session = session = self.host.session + 1
        request = SocketRequest(
            connection_id=self.id,
            session=session,
            stream="test",
            transport="telephone" if self.phone else "websocket",
        )
        await self.socket.send_str(request.model_dump_json())
        return SocketAnswer.model_validate_json(await self.socket.receive_str(timeout=5))

    async def start(self, *, read: bool = True) -> None:
        assert (await self.request()).refusal is None
        if read:
            self._tasks.append(asyncio.create_task(self._read()))

    @property
    def connection(self) -> Connection:
        return self.host.connections._connections[self.id]


@asynccontextmanager
async def serving(handler: Any, **options: Any) -> AsyncIterator[tuple[Host, int]]:
    async with hosting(handler, **options) as host:
        server = WorkerServer(host.connections, SECRET, lambda: b"")
        port = await server.start("127.0.0.1")
        try:
            yield host, port
        finally:
            await host.connections.close_all(EndReason.WORKER_STOPPED, 5)
            await server.stop()


@asynccontextmanager
async def calling(
    handler: Any,
    *,
    phone: bool = False,
    rate: int | None = None,
    client: type[WorkerClient] = WorkerClient,
    **options: Any,
) -> AsyncIterator[tuple[WorkerClient, Host]]:
    rate = 8000 if phone else rate or 24000
    async with (
        serving(handler, **options) as (host, port),
        client(host, port, rate=rate, phone=phone) as made,
    ):
        await made.start()
        yield made, host


class Kept(AsyncEcho):
    """Keeps what it was given, for the test."""

    copies: ClassVar[list["Kept"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Any] = []
        self.context: Any = None

    def copy(self) -> "Kept":
        made = type(self)()
        self.copies.append(made)
        return made

    async def receive(self, frame: Any) -> None:
        self.context = get_current_context()
        self.frames.append(frame)


@TRANSPORTS
@pytest.mark.parametrize("handler", [Echo, AsyncEcho])
async def test_both_kinds_of_handlers_hear_and_speak(handler: type, phone: bool) -> None:
    async with calling(handler(), phone=phone) as (client, _):
        client.play(440)
        await client.wait_for_audio(1.3)
        assert abs(client.peak() - 440) < 5


@TRANSPORTS
async def test_what_the_handler_is_given(phone: bool) -> None:
    """Defect 12, over a socket: FastRTC's chunks click where they meet.

    It gives one-dimensional arrays, too, of whatever size the client chose.
    """
    handler = Kept()
    async with calling(handler, phone=phone) as (client, _):
        at = np.arange(client.rate) / client.rate
        sent = np.sin(2 * np.pi * 300 * at) * 12000
        for chunk in np.split(sent, [100, 1000, 1001, 5000]):
            await client.send_audio(chunk)
        copy = handler.copies[-1]
        await until(lambda: len(copy.frames) >= 48)
        assert {rate for rate, _ in copy.frames} == {24000}
        assert {array.shape for _, array in copy.frames} == {(1, 480)}
        assert {array.dtype for _, array in copy.frames} == {np.dtype(np.int16)}
        heard = np.concatenate([array[0] for _, array in copy.frames]).astype(float)
        jumps = np.abs(np.diff(heard[480:]))
        assert jumps.max() < 2 * np.pi * 300 / 24000 * 12000 + 700, "a click between the chunks"
        assert copy.context.webrtc_id == client.id
        assert copy.context.websocket == ("telephone" if phone else "websocket")
        assert copy.phone_mode is phone


ENDS = {
    "stop": EndReason.CLIENT_CLOSED,
    "abort": EndReason.CLIENT_CLOSED,
    "close stream": EndReason.HANDLER_CLOSED,
    "time limit": EndReason.TIME_LIMIT,
    "server": EndReason.SERVER_CLOSED,
    "worker": EndReason.WORKER_STOPPED,
}


@TRANSPORTS
@pytest.mark.parametrize("end", ENDS)
async def test_every_end_calls_shutdown_once_and_releases(end: str, phone: bool) -> None:
    """FastRTC never does over WebSocket, and ignores the time limit there."""
    script: list[Any] = [CloseStream("bye")] if end == "close stream" else []
    limit = 0.3 if end == "time limit" else None
    async with calling(speaker(*script), phone=phone, time_limit=limit) as (client, host):
        (connection,) = host.connections._open
        if end == "stop":
            await client.send(event="stop")
        elif end == "abort":
            client.socket._response.connection.transport.abort()
        elif end == "server":
            entry = InputEntry(kind="close", connection_id=client.id, session=connection.session)
            host.connections.deliver(entry)
        elif end == "worker":
            await host.connections.close_all(EndReason.WORKER_STOPPED, 5)
        await until(lambda: host.reasons == [ENDS[end]])
        assert connection._handler.events == ["start_up", "shutdown"]
        assert host.recorder.ends == [(client.id, connection.session, ENDS[end])]
        assert not len(host.connections)
        if end != "abort":
            assert await client.wait_closed() == 1000
        told = {"type": "update_connection", "data": "closed"} in client.messages
        assert told is (end not in ("stop", "abort"))


async def test_a_thread_that_waits_in_emit_ends_with_its_caller() -> None:
    async with calling(Echo()) as (client, host):
        client.play()
        await client.wait_for_audio(0.2)
        await client.send(event="stop")
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED])
        await until(lambda: handler_threads() == 0)


async def test_messages_outputs_and_inputs() -> None:
    class Asking(Speaker):
        script: ClassVar = [AdditionalOutputs(1, "x"), ValueError("out of order")]

        async def start_up(self) -> None:
            await self.wait_for_args()
            self.todo.append(AdditionalOutputs(*self.latest_args))

    async with calling(Asking()) as (client, host):
        await client.wait_for_message("send_input")
        await client.wait_for_message("fetch_output")
        assert (await client.wait_for_message("error"))["message"] == "out of order"
        session = client.connection.session
        entry = InputEntry(
            kind="input", connection_id=client.id, session=session, seq=1, args='["a"]'
        )
        host.connections.deliver(entry)
        await until(lambda: len(host.recorder.outputs) == 2)
        assert json.loads(host.recorder.outputs[1][2]) == ["__webrtc_value__", "a"]


async def test_an_idle_handler_costs_nothing_and_delays_nothing() -> None:
    """Defect 1: FastRTC queues each None, and audio waits behind them."""

    class Idle(Speaker):
        script: ClassVar = []
        calls = 0

        async def emit(self) -> Any:
            type(self).calls += 1
            if self.todo:
                return self.todo.pop(0)
            return None

    async with calling(Idle()) as (client, _):
        await asyncio.sleep(1)
        assert Idle.calls < 60
        asked = Idle.calls
        client.connection._handler.todo.append(tone(500, 0.1))  # type: ignore[union-attr]
        await until(lambda: client.samples)
        assert Idle.calls - asked < 30, "the sound waited behind what is nothing"


async def test_clear_queue_silences_a_phone_at_once() -> None:
    async with calling(speaker(tone(500, 3.0)), phone=True) as (client, _):
        await until(lambda: len(client.samples) > 10)
        client.connection._handler.clear_queue()  # type: ignore[union-attr]
        cleared = await client.wait_for_event("clear")
        assert cleared == {"event": "clear", "streamSid": client.id}
        await client.wait_for_event("mark")
        at = client.events.index(cleared)
        assert sum(event["event"] == "media" for event in client.events[at:]) <= 1


async def test_what_is_said_after_a_clear_is_heard() -> None:
    """Twilio forgets all that it was sent before."""

    class Unreported(WorkerClient):
        async def send(self, **message: Any) -> None:
            if message["event"] != "mark":
                await super().send(**message)

    async with (
        serving(speaker(tone(500, 0.3))) as (host, port),
        Unreported(host, port, rate=8000, phone=True) as client,
    ):
        await client.start()
        await client.wait_for_event("mark")
        await asyncio.sleep(0.3)
        before = len(client.samples)
        client.connection._handler.clear_queue()  # type: ignore[union-attr]
        output = client.connection._transport.media.output
        assert output is not None
        await output.write(*tone(500, 0.2), "mono")
        cleared = await client.wait_for_event("clear")
        await until(lambda: len(client.samples) >= before + 10)
        at = client.events.index(cleared)
        assert sum(event["event"] == "media" for event in client.events[at:]) >= 10


async def test_playback_of_a_phone_has_ended_when_twilio_says_so() -> None:
    """Else the call is hung up while Twilio still plays."""
    marks: list[Any] = []

    class Late(WorkerClient):
        async def send(self, **message: Any) -> None:
            if message["event"] == "mark":
                marks.append(time.monotonic())
                await asyncio.sleep(0.5)
            await super().send(**message)

    async with (
        serving(speaker(tone(500, 0.3), CloseStream("bye"))) as (host, port),
        Late(host, port, rate=8000, phone=True) as client,
    ):
        await client.start()
        assert await client.wait_closed() == 1000
        assert time.monotonic() - marks[-1] >= 0.45
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])


async def test_frames_that_are_not_understood_are_ignored_and_counted() -> None:
    before = messages_ignored._value.get()
    wrong = [
        "no json",
        "[1]",
        "[" * 10000,
        '{"event": 7}',
        '{"event": "unheard of"}',
        '{"event": "media"}',
        '{"event": "media", "media": []}',
        '{"event": "media", "media": {"payload": 5}}',
        '{"event": "media", "media": {"payload": "a"}}',
        '{"event": "media", "media": {"payload": "\u00e9"}}',
    ]
    async with calling(AsyncEcho()) as (client, _):
        for text in [*wrong, '{"event": "media", "media": {"payload": ""}}']:
            await client.socket.send_str(text)
        await client.send(event="ping")
        await client.wait_for_event("pong")
        assert messages_ignored._value.get() - before == len(wrong)
        assert client.connection.state is State.CONNECTED


async def test_a_client_that_reads_nothing_holds_up_its_handler_and_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing piles up for it, and after a time its slot is free."""
    monkeypatch.setattr(module, "SEND_TIMEOUT", 3.0)  # to fill the queue takes a moment

    class Chatty(AsyncEcho):
        sent = 0

        async def start_up(self) -> None:
            while True:
                await self.send_message(json.dumps({"type": "log", "data": "x" * 60000}))
                type(self).sent += 1
                await asyncio.sleep(0.001)

    async with (
        serving(Chatty()) as (host, port),
        WorkerClient(host, port) as client,
    ):
        await client.start(read=False)
        channel = client.connection._channel
        client.socket._response.connection.transport.pause_reading()
        await until(lambda: len(channel._pending) == 256, timeout=10)  # type: ignore[attr-defined]
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED], timeout=10)
        assert not len(host.connections)
        client.socket._response.connection.transport.abort()  # it would wait for an answer


async def test_a_burst_of_audio_is_bounded() -> None:
    """A frame of 250 KB is 8 s at 24 kHz: of that a slow handler gets the last second."""

    class Slow(Kept):
        async def receive(self, frame: Any) -> None:
            self.frames.append(frame)
            await asyncio.sleep(1)

    handler = Slow()
    async with calling(handler) as (client, _):
        payload = base64.b64encode(b"\xff" * 190_000).decode()
        await client.send(event="media", media={"payload": payload})
        await until(lambda: handler.copies[-1].frames)
        assert len(client.connection._transport.media.input._frames) <= 50


async def test_a_worker_refuses_what_it_cannot_take() -> None:
    async with serving(AsyncEcho(), slots=1) as (host, port), WorkerClient(host, port) as first:
        await first.start()
        async with WorkerClient(host, port) as second:
            answer = await second.request()
            assert answer.refusal is not None
            assert answer.refusal.code == "refused"
        async with WorkerClient(host, port, connection_id=first.id) as same:
            answer = await same.request(first.connection.session)
            assert answer.refusal is not None
            assert answer.refusal.code == "connection_already_exists"
        async with WorkerClient(host, port) as garbled:
            await garbled.socket.send_str('{"transport": "pigeon"}')
            text = await garbled.socket.receive_str(timeout=5)
            assert json.loads(text)["refusal"]["code"] == "invalid_request"
        stranger = WorkerClient(host, port)
        stranger.headers = {}
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await stranger.__aenter__()
        assert len(host.connections) == 1
