"""WebSocket clients at a replica: who is let in, what they are told, and that frames pass."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI, WebSocket

from control_plane import limits, sockets
from control_plane.app import create_app
from rayrtc import Stream
from rayrtc.cluster.client import Cluster
from rayrtc.settings import Settings
from tests.control_plane.conftest import (
    Api,
    Replica,
    Silence,
    Workers,
    make_stream,
    none_held,
    serving,
)

PATHS = {"websocket": "/websocket/offer", "telephone": "/telephone/handler"}
TRANSPORTS = pytest.mark.parametrize("transport", PATHS)


def tones() -> Iterator[Any]:
    yield from ()


@asynccontextmanager
async def connected(
    api: Api, transport: str = "websocket", **options: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    path = options.pop("path", PATHS[transport])
    async with api.session.ws_connect(api.url + path, **options) as socket:
        yield socket


async def start(socket: aiohttp.ClientWebSocketResponse, connection_id: Any) -> None:
    both = {"websocket_id": connection_id, "streamSid": connection_id}
    await socket.send_json({"event": "start", **both})


async def told(socket: aiohttp.ClientWebSocketResponse) -> str:
    """The error that a refused client is told before its socket is closed."""
    body = await socket.receive_json(timeout=5)
    assert body["status"] == "failed"
    await socket.receive(timeout=5)
    assert socket.close_code == 1000
    error: str = body["meta"]["error"]
    return error


@TRANSPORTS
async def test_frames_pass_both_ways_as_they_are(
    transport: str, replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers()
    api = await replica()
    async with connected(api, transport) as socket:
        await socket.send_json({"event": "ping"})
        assert await socket.receive_json(timeout=5) == {"event": "pong"}
        if transport == "telephone":
            await socket.send_json({"event": "connected"})
        await start(socket, "me")
        for text in ("x", "", '{"event": "media"}', "\u00e9" * 1000, "y" * limits.FRAME_MAX):
            await socket.send_str(text)
            assert await socket.receive_str(timeout=5) == text
        (request,) = worker.offers
        assert request["connection_id"] == "me"
        assert request["transport"] == transport
        assert await api.metric(f'rayrtc_websocket_clients{{transport="{transport}"}}') == 1
    await none_held(cluster)
    outcome = f'{{outcome="answered",stream="default",transport="{transport}"}}'
    assert await api.metric("rayrtc_websocket_starts_total" + outcome) == 1
    assert await api.metric(f'rayrtc_websocket_clients{{transport="{transport}"}}') == 0


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("no json", "invalid_message"),
        ("[]", "invalid_message"),
        ("[" * 5000, "invalid_message"),
        ('{"event": "unheard of"}', "invalid_message"),
        ('{"event": "start"}', "invalid_message"),
        ('{"event": "start", "websocket_id": 7}', "invalid_message"),
        ('{"event": "start", "websocket_id": ""}', "invalid_message"),
        ('{"event": "start", "websocket_id": "a b"}', "invalid_message"),
        ('{"event": "start", "websocket_id": "' + "x" * 129 + '"}', "invalid_message"),
        ("x" * (limits.FRAME_MAX + 1), "too_large"),
        ("\u00e9" * (limits.FRAME_MAX // 2 + 1), "too_large"),
        (b'{"event": "start", "websocket_id": "me"}', "invalid_message"),
    ],
)
async def test_what_is_no_start_is_refused_before_any_work(
    frame: str | bytes, error: str, replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers()
    async with connected(await replica()) as socket:
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
        assert await told(socket) == error
    assert not worker.offers


async def test_a_client_that_does_not_start_is_sent_away(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "START_TIMEOUT", 0.3)
    api = await replica()
    async with connected(api) as socket:
        assert await told(socket) == "request_timeout"
    async with connected(api) as socket:
        for _ in range(limits.FRAMES_BEFORE_START_MAX):
            await socket.send_json({"event": "media"})
        assert await told(socket) == "invalid_message"
    monkeypatch.setattr(sockets, "SOCKETS_STARTING_MAX", 1)
    async with connected(api) as first, connected(api) as second:
        assert await told(second) == "no_worker_available"
        await first.send_json({"event": "stop"})
        await first.receive(timeout=5)
        assert first.close_code == 1000
    async with connected(api) as third:
        assert await told(third) == "request_timeout"


@pytest.mark.parametrize(
    "frame", ["x" * (limits.FRAME_MAX + 1), b"binary"], ids=["too long", "binary"]
)
async def test_a_frame_that_is_not_allowed_ends_the_connection(
    frame: str | bytes, replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    await workers()
    async with connected(await replica()) as socket:
        await start(socket, "me")
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
        assert await told(socket) == ("too_large" if isinstance(frame, str) else "invalid_message")
    await none_held(cluster)


@TRANSPORTS
async def test_limits_ids_and_missing_workers(
    transport: str, replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """Defect 4: phone calls were not counted; a rejected client evicted whose id it used."""
    api = await replica(make_stream(concurrency_limit=1))
    async with connected(api, transport) as socket:
        await start(socket, "nobody")
        assert await told(socket) == "no_worker_available"
    await workers()
    async with connected(api, transport) as owner:
        await start(owner, "me")
        await owner.send_str("x")
        await owner.receive_str(timeout=5)
        for connection_id, error in (
            ("me", "connection_already_exists"),
            ("you", "concurrency_limit_reached"),
        ):
            async with connected(api, transport) as other:
                await start(other, connection_id)
                assert await told(other) == error
        status, body = await api.offer("third")
        assert (status, body["meta"]["limit"]) == (429, 1)
        await owner.send_str("still here")
        assert await owner.receive_str(timeout=5) == "still here"
    await none_held(cluster)


@pytest.mark.parametrize("mode", ["send", "receive"])
async def test_streams_that_are_not_audio_both_ways_are_for_webrtc(
    mode: str, replica: Replica
) -> None:
    api = await replica(
        Stream(tones if mode == "receive" else Silence(), modality="audio", mode=mode)
    )
    async with connected(api) as socket:
        assert await told(socket) == "unsupported_track"


async def test_a_worker_that_refuses_or_is_silent_is_passed_over(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    refusing, silent, good = await workers(3)
    refusing.refusal = "refused"
    silent.hangs = True
    api = await replica(worker_timeout=4.0)
    for number in range(4):
        async with connected(api) as socket:
            await start(socket, f"me{number}")
            await socket.send_str("x")
            assert await socket.receive_str(timeout=10) == "x"
    assert len(good.offers) == 4
    for body in silent.offers:
        assert body["connection_id"] in {gone["connection_id"] for gone in silent.released}
    await none_held(cluster)


async def test_a_client_that_leaves_while_it_is_assigned_holds_no_slot(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers()
    worker.hangs = True
    async with connected(await replica()) as socket:
        await start(socket, "me")
        while not worker.offers:
            await asyncio.sleep(0.01)
    await none_held(cluster, 6)


async def test_a_client_is_told_that_its_worker_is_gone(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers()
    async with connected(await replica()) as socket:
        await start(socket, "me")
        await socket.send_str("x")
        await socket.receive_str(timeout=5)
        transport = worker.sockets[0]._req.transport  # type: ignore[union-attr]
        transport.abort()
        assert (await socket.receive_json(timeout=5))["type"] == "error"
        await socket.receive(timeout=5)
        assert socket.close_code == 1011
    await none_held(cluster)


async def test_the_slower_side_holds_up_the_faster_one(replica: Replica, workers: Workers) -> None:
    """Frames pile up nowhere: what is under way fits into the sockets' buffers."""
    (worker,) = await workers()
    chunk = "x" * 100_000
    sent = 0

    async def flood(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        while True:
            await socket.send_str(chunk)
            sent += 1

    worker.serve_socket = flood
    async with connected(await replica()) as client:
        client._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        await start(client, "me")
        before = -1
        async with asyncio.timeout(20):
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.5)
        assert sent < 200, "20 MB are more than the kernel buffers"
        client._response.connection.transport.abort()  # type: ignore[union-attr]


async def test_a_stopping_replica_closes_its_sockets(
    settings: Settings, workers: Workers, cluster: Cluster
) -> None:
    await workers()
    app = create_app(make_stream())
    async with aiohttp.ClientSession() as session:
        async with serving(app, settings) as (url, _):
            socket = await session.ws_connect(url + PATHS["websocket"])
            await start(socket, "me")
            await socket.send_str("x")
            await socket.receive_str(timeout=5)
            closing = asyncio.create_task(socket.receive(timeout=5))
            await asyncio.sleep(0)
        await closing
        assert socket.close_code == 1012
    await none_held(cluster)


async def test_an_application_may_have_a_route_of_its_own(
    replica: Replica, workers: Workers
) -> None:
    """Instead of ours, or as well, with what it wants to check first."""
    (worker,) = await workers()
    app = FastAPI()
    stream = make_stream()
    with pytest.raises(RuntimeError, match="mount"):
        _ = stream.websocket_offer
    stream.mount(app)

    @app.websocket("/websocket/offer")
    async def own(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("own")
        await websocket.close()

    app.websocket("/calls")(stream.websocket_offer)
    app.post("/offers")(stream.offer)
    app.post("/incoming")(stream.handle_incoming_call)
    api = await replica(app)
    async with connected(api) as socket:
        assert await socket.receive_str(timeout=5) == "own"
    async with connected(api, path="/calls") as socket:
        await start(socket, "me")
        await socket.send_str("x")
        assert await socket.receive_str(timeout=5) == "x"
    assert len(worker.offers) == 1
    async with api.session.post(api.url + "/incoming") as response:
        assert api.url.removeprefix("http") + "/telephone/handler" in await response.text()
    status, body = await api.post("/offers", {"type": "offer", "webrtc_id": "a b"})
    assert status == 422, body
