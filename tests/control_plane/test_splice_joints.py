"""Where a client's WebSocket and its worker's are joined and come apart, with either side full."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from websockets.frames import Opcode

from control_plane import client_socket, relay, splice
from control_plane.app import create_app
from control_plane.client_socket import ClientSocket
from control_plane.worker_client import WorkerClient
from control_plane.worker_socket import WorkerSocket, open_worker_socket
from rayrtc.cluster.client import Cluster
from rayrtc.settings import Settings
from rayrtc.websocket_frames import PONG, TEXT, text_frame
from tests.control_plane.conftest import (
    SECRET,
    Replica,
    Workers,
    make_stream,
    none_held,
    serving,
)
from tests.control_plane.test_splice import PATH, START
from tests.control_plane.worker import FakeWorker
from tests.raw_socket import RawSocket, frame, raw_socket, text


@asynccontextmanager
async def joined(
    settings: Settings, before: Callable[[ClientSocket, WorkerSocket], None]
) -> AsyncIterator[tuple[RawSocket, ClientSocket, WorkerSocket]]:
    """A client that has its worker, after `before` was called with both of their sockets."""
    made: list[tuple[ClientSocket, WorkerSocket]] = []

    class Joined(splice.Splice):
        def __init__(self, client: ClientSocket, worker: WorkerSocket) -> None:
            super().__init__(client, worker)
            made.append((client, worker))
            before(client, worker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "Splice", Joined)
        async with (
            serving(create_app(make_stream()), settings) as (url, _),
            raw_socket(url + PATH) as socket,
        ):
            await socket.send(START)
            async with asyncio.timeout(5):
                while not made:
                    await asyncio.sleep(0.01)
            yield socket, *made[0]


async def test_a_client_that_takes_nothing_is_owed_no_answers_before_its_start(
    settings: Settings,
) -> None:
    async with (
        serving(create_app(make_stream()), settings) as (url, server),
        raw_socket(url + PATH) as socket,
    ):
        (client,) = server.server_state.connections
        assert isinstance(client, ClientSocket)
        client.pause_writing()
        await socket.send(frame(Opcode.PING, b"1"))
        await asyncio.sleep(0.1)
        client.resume_writing()
        await socket.send(frame(Opcode.PING, b"2"))
        assert await socket.receive() == (PONG, b"2")


def test_a_client_that_has_left_before_it_has_a_worker_is_no_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under uvloop, whose transports raise when they are written to after their end."""
    greeted = asyncio.Event()
    left = asyncio.Event()
    open_spliced = WorkerClient.open_spliced

    async def greet(socket: web.WebSocketResponse) -> None:
        await socket.send_str("hello")
        greeted.set()
        await socket.receive()

    async def late(*args: Any) -> WorkerSocket:
        worker = await open_spliced(*args)
        await asyncio.gather(greeted.wait(), left.wait())
        return worker

    async def leave() -> None:
        async with (
            Cluster(settings) as cluster,
            FakeWorker(cluster, "worker", SECRET, 8).running() as worker,
            serving(create_app(make_stream()), settings) as (url, server),
        ):
            worker.serve_socket = greet
            await asyncio.sleep(3 * settings.lease_interval)
            async with raw_socket(url + PATH) as socket:
                await socket.send(START)
                await asyncio.wait_for(greeted.wait(), 5)
            async with asyncio.timeout(5):
                while server.server_state.connections:
                    await asyncio.sleep(0.01)
                left.set()
                await none_held(cluster)

    monkeypatch.setattr(WorkerClient, "open_spliced", late)
    uvloop.run(leave())
    assert "Exception" not in caplog.text


async def test_a_flood_before_the_start_is_cut_off_unread(settings: Settings) -> None:
    """Each of its frames would cost the other calls of the replica 15 us."""
    async with (
        serving(create_app(make_stream()), settings) as (url, _),
        raw_socket(url + PATH) as socket,
    ):
        answered = 0
        with contextlib.suppress(EOFError, ConnectionError):
            await socket.send(frame(Opcode.PING) * 40_000)
            while True:
                await socket.receive()
                answered += 1
        assert answered <= client_socket.FRAMES_MAX


async def test_a_client_that_is_full_before_it_has_a_worker_is_given_up(
    settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "SEND_TIMEOUT", 0.5)
    (worker,) = await workers()

    is_full = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await is_full.wait()
        while True:
            await socket.send_str("nobody takes it")
            await asyncio.sleep(0.01)

    worker.serve_socket = talk

    def full(client: ClientSocket, worker: WorkerSocket) -> None:
        client.pause_writing()
        is_full.set()

    async with joined(settings, full) as (socket, _, _):
        assert await asyncio.wait_for(socket.reader.read(), 5) == b""


async def test_a_worker_that_is_full_at_the_join_holds_up_its_client(
    settings: Settings, workers: Workers
) -> None:
    await workers()

    def full(client: ClientSocket, worker: WorkerSocket) -> None:
        worker.pause_writing()

    async with joined(settings, full) as (socket, _, worker):
        await socket.send(text("x"))
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.3)
        worker.resume_writing()
        assert await socket.receive() == (TEXT, b"x")


@pytest.mark.parametrize("side", ["client", "worker"])
async def test_a_side_that_has_vanished_is_not_waited_for(
    side: str, settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was sent last would else be kept until TCP gives up."""
    monkeypatch.setattr(splice, "BEAT", 0.1)
    (fake,) = await workers()

    async def stand_still(socket: web.WebSocketResponse) -> None:
        socket._req.transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.Event().wait()

    if side == "worker":
        fake.serve_socket = stand_still
    async with joined(settings, lambda client, worker: None) as (_, client, worker):
        transport = client.transport if side == "client" else worker.transport
        transport.set_write_buffer_limits(high=1 << 30)
        transport.write(text_frame(b"x" * 20_000_000))
        async with asyncio.timeout(5):
            while not (client.disconnected if side == "client" else worker._lost):
                await asyncio.sleep(0.05)


async def test_a_client_that_is_silent_is_no_worker_s_loss(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker hears from the replica, also while it is not silent itself."""
    monkeypatch.setattr(splice, "BEAT", 0.2)
    (worker,) = await workers()
    pings = 0

    async def talk(socket: web.WebSocketResponse) -> None:
        nonlocal pings
        socket._autoping = False
        while True:
            await socket.send_str("x")
            with contextlib.suppress(TimeoutError):
                frame = await socket.receive(0.05)
                pings += frame.type is aiohttp.WSMsgType.PING

    worker.serve_socket = talk
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await asyncio.sleep(0.7)
        assert pings > 0


async def test_a_worker_that_refuses_the_handshake_is_not_sent_the_request() -> None:
    sent = b""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n")
        sent = await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        socket = await open_worker_socket(f"http://127.0.0.1:{port}/x", {}, "request")
        with pytest.raises(ValueError, match="401"):
            await asyncio.wait_for(socket.answer, 5)
    assert sent == b""


async def test_a_client_that_takes_nothing_holds_up_its_worker_and_is_given_up(
    settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "SEND_TIMEOUT", 1.0)
    (fake,) = await workers()
    sent = 0

    async def flood(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                await socket.send_str("x" * 100_000)
                sent += 1

    fake.serve_socket = flood
    most = 0
    async with joined(settings, lambda client, worker: None) as (_, client, _):
        async with asyncio.timeout(10):
            while not client.disconnected:
                most = max(most, client.transport.get_write_buffer_size())
                await asyncio.sleep(0.01)
    assert 0 < most < 1 << 20
    assert 0 < sent < 1000, "100 MB are more than the kernel buffers"
