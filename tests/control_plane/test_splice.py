"""A client's WebSocket joined with its worker's: bytes in any portion, ends, limits and silence."""

import asyncio
import contextlib
import json
import time
from unittest.mock import Mock

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from control_plane import limits, splice
from control_plane.app import create_app
from rayrtc.cluster.client import Cluster
from rayrtc.settings import Settings
from rayrtc.websocket_frames import CLOSE, PING, PONG, TEXT
from tests.control_plane.conftest import (
    Replica,
    Workers,
    make_stream,
    none_held,
    serving,
)
from tests.control_plane.test_sockets import connected, start
from tests.raw_socket import RawSocket, frame, raw_socket, text


def start_as(connection_id: str) -> bytes:
    return text(json.dumps({"event": "start", "websocket_id": connection_id}))


START = start_as("me")
PATH = "/websocket/offer"


async def echo(socket: RawSocket, message: str = "x") -> None:
    await socket.send(text(message))
    assert await socket.receive() == (TEXT, message.encode())


async def test_frames_may_come_in_any_portions(replica: Replica, workers: Workers) -> None:
    """Behind `start` in its segment, in the midst of a head, or one message in several frames."""
    await workers()
    api = await replica()
    large = text("y" * 70_000)
    parts = [
        frame(Opcode.TEXT, b"one, ", final=False),
        frame(Opcode.CONT, b"two, ", final=False),
        frame(Opcode.CONT, b"three"),
    ]
    for cut in (1, 3, 5, 9):
        async with raw_socket(api.url + PATH) as socket:
            follow = text("first") + parts[0]
            await socket.send(start_as(f"me{cut}") + follow + parts[1][:cut])
            await asyncio.sleep(0.2)
            await socket.send(parts[1][cut:] + parts[2] + large[:cut], large[cut:], apart=0.01)
            assert await socket.receive() == (TEXT, b"first")
            assert await socket.receive() == (TEXT, b"one, two, three")
            assert await socket.receive() == (TEXT, b"y" * 70_000)
            await socket.send(frame(Opcode.CLOSE, (1000).to_bytes(2)))
            assert await socket.close_code() == 1000
            with pytest.raises(EOFError):
                await socket.receive()


async def test_pings_are_answered(replica: Replica, workers: Workers) -> None:
    await workers()
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        await socket.send(frame(Opcode.PING, b"are you there"))
        assert await socket.receive() == (PONG, b"are you there")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (frame(Opcode.BINARY, b"x"), "invalid_message"),
        (b"\x81\x01x", "invalid_message"),
        (b"\xc1\x80" + bytes(4), "invalid_message"),
        (b"\x83\x80" + bytes(4), "invalid_message"),
        (text("x" * (limits.FRAME_MAX + 1))[:100], "too_large"),
        (
            frame(Opcode.TEXT, b"x" * limits.FRAME_MAX, final=False) + frame(Opcode.CONT, b"y"),
            "too_large",
        ),
        (b"\x89\xff" + (1 << 62).to_bytes(8), "invalid_message"),
        (b"\x88\xff" + (1 << 62).to_bytes(8), "invalid_message"),
        (b"\x08\x80", "invalid_message"),
        (frame(Opcode.CONT, b"x"), "invalid_message"),
        (frame(Opcode.TEXT, b"x", final=False) + text("y"), "invalid_message"),
        (frame(Opcode.TEXT, b"\xff"), "invalid_message"),
    ],
    ids=[
        "binary",
        "not masked",
        "reserved bit",
        "reserved opcode",
        "too large",
        "in parts",
        "endless ping",
        "endless close",
        "part of a close",
        "part without begin",
        "begin in a message",
        "no UTF-8",
    ],
)
async def test_what_is_not_allowed_is_refused_by_its_head(
    sent: bytes, error: str, replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    await workers()
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        await socket.send(sent)
        opcode, payload = await socket.receive()
        assert opcode == TEXT
        assert json.loads(payload)["meta"]["error"] == error
        assert await socket.close_code() == 1000
    await none_held(cluster)


async def test_what_precedes_a_refused_frame_reaches_the_worker(
    replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers()
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            heard.put_nowait(message.data)

    worker.serve_socket = listen
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await asyncio.sleep(0.2)
        await socket.send(text("right") + frame(Opcode.BINARY, b"wrong") + text("too late"))
        assert await asyncio.wait_for(heard.get(), 5) == "right"
        assert await socket.close_code() == 1000
    assert heard.empty()


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """Mostly right, with any first byte, and lengths written longer than need be."""
    usual = [0x01, 0x80, 0x81, 0x00, 0x88, 0x89, 0x8A]
    first = draw(st.sampled_from(usual) | st.integers(0, 255))
    payload = draw(st.binary(max_size=130))
    extended = draw(st.sampled_from([0, 2, 8])) if len(payload) <= 125 else 2
    masked = 0x80 if draw(st.integers(0, 20)) else 0
    length = {0: len(payload), 2: 126, 8: 127}[extended]
    head = bytes([first, masked | length])
    if extended:
        head += len(payload).to_bytes(extended)
    return head + (b"mask" if masked else b"") + payload


@given(frames=st.lists(any_frame(), max_size=8), cut=st.integers(1, 200))
def test_what_reaches_the_worker_is_right_whatever_a_client_sends(
    frames: list[bytes], cut: int
) -> None:
    data = b"".join(frames)
    sent = bytearray()
    client, worker = Mock(), Mock()
    worker.transport.is_closing = lambda: False
    worker.transport.write = sent.extend

    async def pass_on() -> None:
        joined = splice.Splice(client, worker)
        for at in range(0, len(data), cut):
            joined.from_client(data[at : at + cut])
        if joined._ended.done() and not joined._ended.exception():
            assert data.endswith(joined._of_client.close + joined._late)

    asyncio.run(pass_on())
    assert data.startswith(sent)
    parser = ServerProtocol(state=State.OPEN, max_size=limits.FRAME_MAX)
    parser.receive_data(bytes(sent))
    assert parser.parser_exc is None
    assert not any(
        isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CLOSE)
        for event in parser.events_received()
    )


@pytest.mark.parametrize("code", [1000, 1001])
async def test_only_a_worker_that_closes_in_order_ends_a_call_in_order(
    code: int, replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers()
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        asyncio.get_running_loop().create_task(worker.sockets[0].close(code=code))
        opcode, payload = await socket.receive()
        if code != 1000:
            assert json.loads(payload)["type"] == "error"
            opcode, payload = await socket.receive()
        assert opcode == CLOSE
        assert int.from_bytes(payload[:2]) == (1000 if code == 1000 else 1011)


async def test_a_client_that_is_silent_is_pinged_and_given_up(
    replica: Replica, workers: Workers, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "BEAT", 0.1)
    await workers()
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        began = time.monotonic()
        while time.monotonic() < began + 1:  # the worker answers pings by itself
            opcode, _ = await socket.receive()
            if opcode == PING:
                await socket.send(frame(Opcode.PONG))
        await echo_after_pings(socket)
        await none_held(cluster)


async def echo_after_pings(socket: RawSocket) -> None:
    """It still works; then nothing is answered any more."""
    await socket.send(text("still here"))
    while (received := await socket.receive())[0] != TEXT:
        pass
    assert received == (TEXT, b"still here")
    with contextlib.suppress(EOFError):
        async with asyncio.timeout(5):
            while True:
                await socket.receive()


async def test_a_worker_that_is_silent_is_given_up(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = await workers()

    async def stand_still(socket: web.WebSocketResponse) -> None:
        socket._req.transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.Event().wait()

    worker.serve_socket = stand_still
    monkeypatch.setattr(splice, "BEAT", 0.1)
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        while True:
            opcode, payload = await socket.receive()
            if opcode == TEXT:
                break
            await socket.send(frame(Opcode.PONG))
        assert json.loads(payload)["type"] == "error"
        assert await socket.close_code() == 1011


async def test_a_worker_that_takes_nothing_holds_up_its_client_and_is_given_up(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = await workers()
    monkeypatch.setattr(splice, "SEND_TIMEOUT", 1.0)

    async def stand_still(socket: web.WebSocketResponse) -> None:
        socket._req.transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.Event().wait()

    worker.serve_socket = stand_still
    sent = 0
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)

        async def flood() -> None:
            nonlocal sent
            while True:
                await socket.send(text("x" * 100_000))
                sent += 1

        flooding = asyncio.create_task(flood())
        try:
            assert await socket.close_code(10) == 1011
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
    assert 0 < sent < 1000, "100 MB are more than the kernel buffers"


async def test_under_another_server_messages_pass(settings: Settings, workers: Workers) -> None:
    """An application need not run under `rayrtc control-plane`."""
    await workers()
    app = create_app(make_stream())
    async with (
        serving(app, settings, ws="websockets-sansio") as (url, _),
        raw_socket(url + PATH) as socket,
    ):
        await socket.send(START)
        await echo(socket)
        await echo(socket, "y" * 1000)


async def test_a_call_goes_on_while_others_come_and_go(replica: Replica, workers: Workers) -> None:
    await workers()
    api = await replica()
    async with raw_socket(api.url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        for number in range(3):
            async with connected(api) as other:
                await start(other, f"other{number}")
                await other.send_str("y")
                assert await other.receive_str(timeout=5) == "y"
        await echo(socket, "z")


@pytest.mark.parametrize(
    "sent",
    [frame(Opcode.BINARY, b"x"), frame(Opcode.CLOSE, (1000).to_bytes(2))],
    ids=["refused", "closes"],
)
async def test_nothing_is_said_inside_of_a_worker_s_frame(
    sent: bytes, replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers()
    begin = b"\x81\x7e" + (1000).to_bytes(2) + b"x" * 10

    async def begin_only(socket: web.WebSocketResponse) -> None:
        socket._req.transport.write(begin)  # type: ignore[union-attr]
        await asyncio.Event().wait()

    worker.serve_socket = begin_only
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        assert await socket.reader.readexactly(len(begin)) == begin
        await socket.send(sent)
        assert await asyncio.wait_for(socket.reader.read(), 5) == b""


async def test_a_head_cut_by_the_end_is_read_on(replica: Replica, workers: Workers) -> None:
    """Else the client's answer to the close would be taken for something else, and waited for."""
    (worker,) = await workers()
    async with raw_socket((await replica()).url + PATH) as socket:
        await socket.send(START)
        await echo(socket)
        await socket.send(b"\x81")
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(worker.sockets[0].close())
        assert await socket.close_code() == 1000
        await socket.send(b"\x82\xfe\x01\0\0xx", frame(Opcode.CLOSE, (1000).to_bytes(2)))
        with pytest.raises(EOFError):
            await socket.receive()
        await closing
