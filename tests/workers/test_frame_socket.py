"""The worker's end of a WebSocket: what is not a message in one frame, and how it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.frames import Opcode

from rayrtc.cluster.models import EndReason, SocketAnswer, SocketRequest
from rayrtc.websocket_frames import CLOSE, PING, PONG, TEXT
from tests.raw_socket import RawSocket, frame, raw_socket, text
from tests.workers.host import AsyncEcho, Host, until
from tests.workers.test_server import SECRET
from tests.workers.test_websocket import serving
from workers import frame_socket

HEADERS = {"Authorization": f"Bearer {SECRET}"}
REQUEST = SocketRequest(
    connection_id="me", session=1, stream="test", transport="websocket"
).model_dump_json()
PONG_TEXT = (TEXT, b'{"event": "pong"}')


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[RawSocket, Host]]:
    async with (
        serving(AsyncEcho()) as (host, port),
        raw_socket(f"http://127.0.0.1:{port}/v1/websocket", HEADERS) as socket,
    ):
        await socket.send(text(REQUEST))
        opcode, payload = await socket.receive()
        assert opcode == TEXT
        assert SocketAnswer.model_validate_json(payload).refusal is None
        yield socket, host


async def test_messages_may_come_in_parts_and_in_any_portions() -> None:
    async with calling() as (socket, _):
        data = frame(Opcode.TEXT, b'{"event"', final=False) + frame(Opcode.PING, b"x")
        data += frame(Opcode.CONT, b': "ping"}')
        await socket.send(*(data[at : at + 3] for at in range(0, len(data), 3)), apart=0.005)
        assert await socket.receive() == (PONG, b"x")
        assert await socket.receive() == PONG_TEXT
        await socket.send(text('{"event": "ping"}') * 3)
        for _ in range(3):
            assert await socket.receive() == PONG_TEXT


async def test_what_follows_the_request_at_once_is_not_lost() -> None:
    async with (
        serving(AsyncEcho()) as (_, port),
        raw_socket(f"http://127.0.0.1:{port}/v1/websocket", HEADERS) as socket,
    ):
        await socket.send(text(REQUEST) + text('{"event": "ping"}'))
        assert (await socket.receive())[0] == TEXT
        assert await socket.receive() == PONG_TEXT


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.CLOSE, (1000).to_bytes(2)), 1000),
        (frame(Opcode.CLOSE), 1005),
        (frame(Opcode.BINARY, b"x"), 1003),
        (frame(Opcode.TEXT, b"\xff"), 1007),
        (b"\x81\x01x", 1002),
        (b"\x83\x80" + bytes(4), 1002),
        (b"\x81\xff" + (1 << 40).to_bytes(8), 1009),
    ],
    ids=["closed", "no code", "binary", "no UTF-8", "not masked", "unknown", "too big"],
)
async def test_every_end_closes_in_order_and_releases(sent: bytes, code: int) -> None:
    async with calling() as (socket, host):
        await socket.send(sent)
        opcode, payload = await socket.receive()
        assert opcode == CLOSE
        assert (int.from_bytes(payload[:2]) or 1005) == code
        with pytest.raises(EOFError):
            await socket.receive()
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED])


async def test_a_client_that_is_silent_is_pinged_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_socket, "BEAT", 0.1)
    async with calling() as (socket, host):
        for _ in range(5):
            assert await socket.receive() == (PING, b"")
            await socket.send(frame(Opcode.PONG))
        assert not host.reasons
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED])


async def test_a_request_has_room_for_the_inputs() -> None:
    """Those of an id that comes back: up to `RAYRTC_PAYLOAD_MAX`, escaped once more."""
    inputs = '["' + "x" * ((1 << 20) - 4) + '"]'
    request = SocketRequest(
        connection_id="me",
        session=1,
        stream="test",
        transport="websocket",
        inputs=inputs,
        inputs_seq=1,
    )
    async with (
        serving(AsyncEcho()) as (_, port),
        raw_socket(f"http://127.0.0.1:{port}/v1/websocket", HEADERS) as socket,
    ):
        await socket.send(text(request.model_dump_json()))
        opcode, payload = await socket.receive()
        assert opcode == TEXT
        assert SocketAnswer.model_validate_json(payload).refusal is None


async def test_the_last_of_many_pings_is_answered() -> None:
    """A flood of them holds up no other call of the worker."""
    async with calling() as (socket, _):
        await socket.send(*(frame(Opcode.PING, str(number).encode()) for number in range(5000)))
        answered = 0
        while await socket.receive() != (PONG, b"4999"):
            answered += 1
        assert answered < 500


def socket_of(host: Host) -> frame_socket.FrameSocket:
    socket: frame_socket.FrameSocket = host.connections._connections["me"]._transport._socket  # type: ignore[attr-defined]
    return socket


async def test_who_takes_nothing_is_owed_no_answers() -> None:
    """Else the answers to pings pile up for a client that reads none of them."""
    async with calling() as (socket, host):
        socket_of(host).pause_writing()
        await socket.send(frame(Opcode.PING, b"1"), text('{"event": "ping"}'))
        assert await socket.receive() == PONG_TEXT
        socket_of(host).resume_writing()
        await socket.send(frame(Opcode.PING, b"2"))
        assert await socket.receive() == (PONG, b"2")


async def test_a_refused_client_can_close() -> None:
    async with (
        serving(AsyncEcho()) as (_, port),
        raw_socket(f"http://127.0.0.1:{port}/v1/websocket", HEADERS) as socket,
    ):
        await socket.send(text(REQUEST.replace('"test"', '"unknown"')))
        _, payload = await socket.receive()
        assert SocketAnswer.model_validate_json(payload).refusal is not None
        await socket.send(text("more"), frame(Opcode.CLOSE, (1000).to_bytes(2)))
        assert await socket.close_code() == 1000
        with pytest.raises(EOFError):
            await socket.receive(timeout=2)


async def test_a_client_that_does_not_answer_the_close_is_not_waited_for() -> None:
    async with calling() as (socket, host):
        await socket.send(text('{"event": "stop"}'))
        assert await socket.close_code() == 1000
        with pytest.raises(EOFError):
            await socket.receive(timeout=10)
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED])
