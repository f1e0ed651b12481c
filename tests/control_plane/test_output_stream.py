"""`stream.output_stream` in an application's own route, as FastRTC's pages read it.

Such routes send no event ids, so an EventSource that comes back cannot say what it has.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from rayrtc import Stream, stream
from rayrtc.cluster.models import EndReason
from rayrtc.cluster.places import Places
from tests.control_plane.conftest import Api, Replica, Workers, make_stream
from tests.control_plane.worker import FakeWorker
from tests.e2e.sse import Reader


def application() -> FastAPI:
    """A user's application with the specification's example of a route."""
    app = FastAPI()
    mounted: Stream = make_stream()
    mounted.mount(app)

    @app.get("/updates")
    async def updates(webrtc_id: str) -> StreamingResponse:
        async def outputs() -> AsyncIterator[str]:
            async for output in mounted.output_stream(webrtc_id):
                yield f"data: {json.dumps(output.args[0])}\n\n"

        return StreamingResponse(outputs(), media_type="text/event-stream")

    return app


def seen(reader: Reader) -> list[int]:
    return [json.loads(event.data) for event in reader.events]


async def test_who_comes_back_goes_on_at_any_replica(replica: Replica, workers: Workers) -> None:
    """After a cut in the middle of a call a page shows nothing twice and misses nothing."""
    (worker,) = await workers(1)
    first, second = await replica(application()), await replica(application())
    await first.offer("alice")
    reader = Reader(first.url + "/updates", "alice")
    await worker.put("alice", "[1]", "[2]")
    await reader.wait_for(2)
    await reader.close()
    await worker.put("alice", "[3]")
    await asyncio.sleep(0.5)  # the replica notices that its client has gone
    again = Reader(second.url + "/updates", "alice")
    await worker.put("alice", "[4]")
    await again.wait_for(2)
    assert seen(again) == [3, 4]
    await again.close()


async def read_to_the_end(api: Api, worker: FakeWorker) -> None:
    """A call of alice with one output, and a reader that has had it and the end."""
    await api.offer("alice")
    reader = Reader(api.url + "/updates", "alice")
    await worker.put("alice", "[1]")
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    await asyncio.wait_for(reader.task, 5)
    assert seen(reader) == [1]


async def test_after_the_end_nothing_comes_twice(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that stays open asks every few seconds; it is kept waiting, and told nothing."""
    monkeypatch.setattr(stream, "READER_WAIT", 1.0)
    (worker,) = await workers(1)
    api = await replica(application())
    await read_to_the_end(api, worker)
    for _ in range(2):
        started = asyncio.get_running_loop().time()
        again = Reader(api.url + "/updates", "alice")
        await asyncio.wait_for(again.task, 5)
        assert (again.status, seen(again)) == (200, [])
        assert asyncio.get_running_loop().time() - started > 0.9
    await api.offer("alice")
    anew = Reader(api.url + "/updates", "alice")
    await worker.put("alice", "[2]")
    await anew.wait_for(1)
    assert seen(anew) == [2]
    await anew.close()


async def test_who_comes_back_at_once_finds_its_place(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long Redis takes to note it: the client sees the end after that."""
    leave = Places.leave

    async def slow(places: Places, connection_id: str, entry_id: str) -> None:
        await asyncio.sleep(0.5)
        await leave(places, connection_id, entry_id)

    monkeypatch.setattr(Places, "leave", slow)
    monkeypatch.setattr(stream, "READER_WAIT", 0.2)
    (worker,) = await workers(1)
    api = await replica(application())
    await read_to_the_end(api, worker)
    again = Reader(api.url + "/updates", "alice")
    await asyncio.wait_for(again.task, 5)
    assert seen(again) == []


async def test_readers_at_the_same_time_get_everything(replica: Replica, workers: Workers) -> None:
    """Nobody takes another's outputs, also when the first one comes after the end."""
    (worker,) = await workers(1)
    api = await replica(application())
    await api.offer("alice")
    readers = [Reader(api.url + "/updates", "alice") for _ in range(3)]
    await worker.put("alice", "[1]", "[2]")
    for reader in readers:
        await reader.wait_for(2)
        await reader.close()
    await api.offer("bob")
    await worker.put("bob", "[3]")
    await worker.close("bob", EndReason.CLIENT_CLOSED)
    late = Reader(api.url + "/updates", "bob")
    await asyncio.wait_for(late.task, 5)
    assert seen(late) == [3]


async def test_a_reader_may_come_before_its_connection(replica: Replica, workers: Workers) -> None:
    """FastRTC's page for WebSocket opens its EventSource before it has a connection."""
    (worker,) = await workers(1)
    api = await replica(application())
    early = Reader(api.url + "/updates", "alice")
    await asyncio.wait_for(early.opened.wait(), 5)
    await asyncio.sleep(0.5)
    await api.offer("alice")
    await worker.put("alice", "[1]")
    await early.wait_for(1)
    assert seen(early) == [1]
    await early.close()
