"""What becomes of a call whose handler raises, and that every call's end is told to its handler.

Each method, sync and async, on every transport that has it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from rayrtc import (
    AsyncAudioVideoStreamHandler,
    AsyncStreamHandler,
    AudioVideoStreamHandler,
    CloseStream,
    StreamHandler,
)
from rayrtc.cluster.models import EndReason, InputEntry
from tests.clients import AiortcClient
from tests.workers import test_websocket
from tests.workers.host import Host, calling, handler_threads, hosting, until
from workers.connection import Connection, State
from workers.runtime import MAX_FAILURES, handler_errors

TRANSPORTS = ["webrtc", "websocket", "telephone"]
KINDS = ["sync", "async"]


class Faults:
    """What the handlers of a test share: which method raises and how often, and what was called."""

    def __init__(self, method: str = "", times: int = 1 << 30) -> None:
        self.method = method
        self.times = times
        self.closes = False
        """`emit` asks for the end."""
        self.calls: dict[str, int] = {}

    def enter(self, method: str) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        if method == self.method and self.times > 0:
            self.times -= 1
            raise RuntimeError("out of order")

    def emitted(self) -> Any:
        self.enter("emit")
        return CloseStream() if self.closes else None


class Sync(StreamHandler):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    def copy(self) -> Any:
        return type(self)(self.faults)

    def start_up(self) -> None:
        self.faults.enter("start_up")

    def receive(self, frame: Any) -> None:
        self.faults.enter("receive")

    def emit(self) -> Any:
        return self.faults.emitted()

    def shutdown(self) -> None:
        self.faults.enter("shutdown")


class Async(AsyncStreamHandler):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    def copy(self) -> Any:
        return type(self)(self.faults)

    async def start_up(self) -> None:
        self.faults.enter("start_up")

    async def receive(self, frame: Any) -> None:
        self.faults.enter("receive")

    async def emit(self) -> Any:
        return self.faults.emitted()

    async def shutdown(self) -> None:
        self.faults.enter("shutdown")


class SyncVideo(Sync, AudioVideoStreamHandler):
    def video_receive(self, frame: Any) -> None:
        self.faults.enter("video_receive")

    def video_emit(self) -> Any:
        self.faults.enter("video_emit")


class AsyncVideo(Async, AsyncAudioVideoStreamHandler):
    async def video_receive(self, frame: Any) -> None:
        self.faults.enter("video_receive")

    async def video_emit(self) -> Any:
        self.faults.enter("video_emit")


class Call(NamedTuple):
    client: Any
    host: Host
    connection: Connection

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [message for message in self.client.messages if message["type"] == "error"]


@asynccontextmanager
async def a_call(transport: str, handler: Any, **options: Any) -> AsyncIterator[Call]:
    """A client that sends audio over `transport`."""
    if transport == "webrtc":
        kinds = options.pop("kinds", ["audio"])
        async with hosting(handler, **options) as host:
            async with calling(host, kinds=kinds) as (client, connection):
                yield Call(client, host, connection)
            await until(lambda: not len(host.connections))
    else:
        phone = transport == "telephone"
        async with test_websocket.calling(handler, phone=phone, **options) as (client, host):
            client.play()
            yield Call(client, host, next(iter(host.connections._open)))
        await until(lambda: not len(host.connections))


def counted(method: str) -> float:
    return float(handler_errors.labels("test", method)._value.get())


def check_logged(
    caplog: pytest.LogCaptureFixture, call: Call, handler: str, method: str, count: int
) -> None:
    """The exceptions are in the log, with all that is needed to find them."""
    records = [record for record in caplog.records if getattr(record, "method", "") == method]
    assert len(records) == count
    for record in records:
        fields: dict[str, Any] = vars(record)
        assert fields["connection_id"] == call.connection.id
        assert fields["stream"] == "test"
        assert fields["handler"] == handler
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert "out of order" in str(record.exc_info[1])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [Sync, Async])
@pytest.mark.parametrize("method", ["receive", "emit", "start_up", "shutdown"])
async def test_a_method_that_always_raises(
    method: str, kind: Any, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Defect 8: an exception in `emit` ended the output silently while the connection stayed up."""
    faults = Faults(method)
    before = counted(method)
    async with a_call(transport, kind(faults)) as call:
        if method == "shutdown":
            call.connection.close(EndReason.CLIENT_CLOSED)
        await until(lambda: call.host.reasons)
    count = {"start_up": 1, "shutdown": 1}.get(method, MAX_FAILURES)
    if method == "shutdown":
        assert call.host.reasons == [EndReason.CLIENT_CLOSED], "it changes nothing"
    else:
        assert call.host.reasons == [EndReason.HANDLER_ERROR]
        told = {"type": "error", "data": "out of order", "message": "out of order"}
        assert call.errors == [told] * count
        assert {"type": "update_connection", "data": "closed"} in call.client.messages
    check_logged(caplog, call, kind.__name__, method, count)
    assert counted(method) == before + count
    assert faults.calls["shutdown"] == 1
    await until(lambda: handler_threads() == 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [Sync, Async])
@pytest.mark.parametrize("method", ["receive", "emit"])
async def test_a_method_that_raises_now_and_then(method: str, kind: Any, transport: str) -> None:
    """Defect 8: the client is told each time, and the next call is made as if nothing was."""
    faults = Faults(method, times=3)
    async with a_call(transport, kind(faults)) as call:
        await until(lambda: faults.calls.get(method, 0) >= 10)
        await until(lambda: len(call.errors) == 3)
        assert call.connection.state is State.CONNECTED
        assert call.host.reasons == []
    assert faults.calls["shutdown"] == 1


@pytest.mark.parametrize("kind", [SyncVideo, AsyncVideo])
@pytest.mark.parametrize("method", ["video_receive", "video_emit"])
async def test_a_video_method_that_always_raises(
    method: str, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults(method)
    options: dict[str, Any] = {"modality": "audio-video", "kinds": ["audio", "video"]}
    async with a_call("webrtc", kind(faults), **options) as call:
        await until(lambda: call.host.reasons)
    assert call.host.reasons == [EndReason.HANDLER_ERROR]
    assert len(call.errors) == MAX_FAILURES
    check_logged(caplog, call, kind.__name__, method, MAX_FAILURES)
    assert faults.calls["shutdown"] == 1
    await until(lambda: handler_threads() == 0)


def broken_function(frame: Any) -> Any:
    raise RuntimeError("out of order")


def broken_generator() -> Iterator[Any]:
    yield None
    raise RuntimeError("out of order")


async def broken_async_generator() -> AsyncIterator[Any]:
    yield None
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("function", "modality", "mode", "method", "count"),
    [
        (broken_function, "video", "send-receive", "video", MAX_FAILURES),
        (broken_generator, "audio", "receive", "generator", 1),
        (broken_async_generator, "audio", "receive", "generator", 1),
        (broken_generator, "video", "receive", "generator", 1),
        (broken_async_generator, "audio-video", "receive", "generator", 1),
    ],
)
async def test_a_function_that_raises(
    function: Callable[..., Any],
    modality: str,
    mode: str,
    method: str,
    count: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A generator cannot go on after an exception: one ends the connection."""
    before = counted(method)
    options: dict[str, Any] = {"modality": modality, "mode": mode, "kinds": modality.split("-")}
    async with a_call("webrtc", function, **options) as call:
        await until(lambda: call.host.reasons)
    assert call.host.reasons == [EndReason.HANDLER_ERROR]
    assert len(call.errors) == count
    check_logged(caplog, call, function.__name__, method, count)
    assert counted(method) == before + count
    await until(lambda: handler_threads() == 0)


async def client_leaves(call: Call) -> None:
    if hasattr(call.client, "socket"):
        await call.client.send(event="stop")
    else:
        await call.client.close()


async def client_vanishes(call: Call) -> None:
    """Its network is gone."""
    if hasattr(call.client, "socket"):
        call.client.socket._response.connection.transport.abort()
    else:
        call.connection.failed()


async def server_closes(call: Call) -> None:
    entry = InputEntry(
        kind="close", connection_id=call.connection.id, session=call.connection.session
    )
    call.host.connections.deliver(entry)


async def handler_closes(call: Call) -> None:
    handler: Any = call.connection._handler
    handler.faults.closes = True


async def handler_fails(call: Call) -> None:
    handler: Any = call.connection._handler
    handler.faults.method = "emit"


async def worker_stops(call: Call) -> None:
    await call.host.connections.close_all(EndReason.WORKER_STOPPED, 5)


async def all_at_once(call: Call) -> None:
    await handler_closes(call)
    await asyncio.gather(server_closes(call), client_leaves(call), worker_stops(call))


PATHS: list[tuple[Callable[[Call], Any], set[EndReason]]] = [
    (client_leaves, {EndReason.CLIENT_CLOSED}),
    (client_vanishes, {EndReason.CLIENT_CLOSED, EndReason.ICE_FAILED}),
    (server_closes, {EndReason.SERVER_CLOSED}),
    (handler_closes, {EndReason.HANDLER_CLOSED}),
    (handler_fails, {EndReason.HANDLER_ERROR}),
    (worker_stops, {EndReason.WORKER_STOPPED}),
    (all_at_once, {EndReason.SERVER_CLOSED}),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [Sync, Async])
@pytest.mark.parametrize(("end", "reasons"), PATHS, ids=[end.__name__ for end, _ in PATHS])
async def test_shutdown_is_called_exactly_once(
    end: Callable[[Call], Any], reasons: set[EndReason], kind: Any, transport: str
) -> None:
    """Defect 5: `shutdown` was never called over WebSocket and telephone, and `CloseStream` left
    the connection open."""
    faults = Faults()
    async with a_call(transport, kind(faults)) as call:
        await until(lambda: faults.calls.get("emit") and faults.calls.get("start_up"))
        await end(call)
        await until(lambda: call.host.reasons)
        assert set(call.host.reasons) <= reasons
        assert faults.calls["shutdown"] == 1
    assert faults.calls["shutdown"] == 1
    assert faults.calls["start_up"] == 1
    await until(lambda: handler_threads() == 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [Sync, Async])
async def test_a_time_limit_ends_a_call_on_every_transport(kind: Any, transport: str) -> None:
    """Defect 5: `time_limit` was ignored over WebSocket and telephone."""
    faults = Faults()
    async with a_call(transport, kind(faults), time_limit=0.3) as call:
        await until(lambda: call.host.reasons)
        assert call.host.reasons == [EndReason.TIME_LIMIT]
        assert {"type": "update_connection", "data": "closed"} in call.client.messages
    assert faults.calls["shutdown"] == 1


@pytest.mark.parametrize("kind", [Sync, Async])
async def test_a_client_that_never_connects_is_told_to_the_handler_too(kind: Any) -> None:
    """Its copy was made, and may hold something."""
    faults = Faults()
    async with hosting(kind(faults), connect_timeout=0.5) as host:
        client = AiortcClient("")
        body = await client.create_offer()
        await host.connections.offer(host.request(client.webrtc_id, body["sdp"]))
        await client.close()
        await until(lambda: host.reasons)
        assert host.reasons == [EndReason.CONNECT_TIMEOUT]
    assert faults.calls == {"shutdown": 1}
