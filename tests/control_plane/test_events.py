"""Event streams: each reader gets each output once, in order, and is told of gaps and the end."""

import asyncio
import json

import pytest

from control_plane import endpoints
from control_plane.sse import event
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import Api, Replica, Workers, make_stream, serving
from tests.e2e.sse import Reader


async def test_both_forms(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    updates = Reader(api.url + "/updates", "alice")
    outputs = Reader(api.url + "/outputs", "alice")
    await worker.put("alice", '["two\\nlines", 1]', '[{"a": [1.5, null]}]', "[]", '["ü\\u2028"]')
    await worker.close("alice", EndReason.TIME_LIMIT)
    await asyncio.wait_for(asyncio.gather(updates.task, outputs.task), 5)
    assert [(e.name, e.data) for e in updates.events] == [
        ("message", "two\nlines"),
        ("message", '{"a": [1.5, null]}'),
        ("message", "null"),
        ("message", "ü\u2028"),
        ("end", '{"reason": "time_limit"}'),
    ]
    assert [(e.name, json.loads(e.data)) for e in outputs.events] == [
        ("output", ["two\nlines", 1]),
        ("output", [{"a": [1.5, None]}]),
        ("output", []),
        ("output", ["ü\u2028"]),
        ("end", {"reason": "time_limit"}),
    ]
    session = worker.offers[0]["session"]
    assert [e.id for e in updates.events] == [f"{session}-{n}" for n in range(1, 6)]
    assert await api.metric("rayrtc_outputs_delivered_total") == 8
    assert await api.metric('rayrtc_sse_clients{route="updates"}') == 0


async def test_headers_and_heartbeat(replica: Replica, workers: Workers) -> None:
    await workers(1)
    api = await replica(sse_heartbeat=0.1)
    await api.offer("alice")
    url = api.url + "/updates?webrtc_id=alice"
    async with api.session.get(url) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["X-Request-ID"]
        text = b""
        async with asyncio.timeout(3):
            while text.count(b": heartbeat") < 2:
                text += await response.content.readany()
        assert await api.metric('rayrtc_sse_clients{route="updates"}') == 1
    async with asyncio.timeout(2):
        while await api.metric('rayrtc_sse_clients{route="updates"}'):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["header", "last_event_id", "lastEventId"])
async def test_resume_on_another_replica(replica: Replica, workers: Workers, how: str) -> None:
    (worker,) = await workers(1)
    first, second = await replica(), await replica()
    await first.offer("alice")
    await worker.put("alice", *(f"[{n}]" for n in range(10)))
    reader = Reader(first.url + "/updates", "alice")
    await reader.wait_for(10)
    await reader.close()
    cursor = reader.events[3].id
    if how == "header":
        # a browser's header is newer than what its URL says
        url = f"{second.url}/updates?last_event_id={reader.events[0].id}"
        again = Reader(url, "alice", cursor)
    else:
        again = Reader(f"{second.url}/updates?{how}={cursor}", "alice")
    await worker.put("alice", "[10]")
    await again.wait_for(7)
    assert [e.data for e in again.events] == [str(n) for n in range(4, 11)]
    await again.close()


async def test_gap_is_shown(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    await worker.put("alice", *(f"[{n}]" for n in range(5)))
    session = worker.offers[0]["session"]
    key = next(k for k in await cluster.pools.commands.keys("*alice*outputs"))
    await cluster.pools.commands.xtrim(key, maxlen=2, approximate=False)
    reader = Reader(api.url + "/outputs", "alice", f"{session}-1")
    await reader.wait_for(2, "output")
    assert [e.name for e in reader.events] == ["gap", "output", "output"]
    assert json.loads(reader.events[0].data) == {"after": f"{session}-1", "next": f"{session}-4"}
    assert reader.events[0].id == f"{session}-1"
    assert await api.metric("rayrtc_output_gaps_total") == 1
    await reader.close()


async def test_ended_connection_is_replayed_and_its_end_is_final(
    replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    await worker.put("alice", '["x"]')
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    reader = Reader(api.url + "/updates", "alice")
    await asyncio.wait_for(reader.task, 5)
    assert [e.name for e in reader.events] == ["message", "end"]
    again = Reader(api.url + "/updates", "alice", reader.events[0].id)
    await asyncio.wait_for(again.task, 5)
    assert [e.name for e in again.events] == ["end"]
    after = Reader(api.url + "/updates", "alice", reader.events[1].id)
    await asyncio.wait_for(after.task, 5)
    assert (after.status, after.events) == (204, [])


async def test_a_reader_may_come_a_little_before_its_connection(
    replica: Replica, workers: Workers
) -> None:
    """Else a page that opens its EventSource beside its offer would never see an output."""
    (worker,) = await workers(1)
    api = await replica()
    early = Reader(api.url + "/updates", "alice")
    await asyncio.sleep(0.3)
    assert early.status is None
    await api.offer("alice")
    await worker.put("alice", '["x"]')
    await early.wait_for(1)
    await early.close()


async def test_refusals_come_before_the_stream(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "EVENTS_WAIT", 0.1)
    await workers(1)
    api = await replica(sse_clients_max=1)
    for path in ("/updates", "/outputs", "/outputs/latest"):
        status, body = await api.get(path, webrtc_id="nobody")
        assert (status, body["meta"]["error"]) == (404, "unknown_connection")
    await api.offer("alice")
    for cursor in ("x", "1", "1-", "-1-1", "1-1-1", "1" * 16 + "-1", "\u0661-\u0661", "$"):
        assert (await api.get("/updates", webrtc_id="alice", last_event_id=cursor))[0] == 422
        url = f"{api.url}/outputs?webrtc_id=alice"
        headers = {"Last-Event-ID": cursor}
        async with api.session.get(url, headers=headers) as response:
            assert response.status == 422
    for webrtc_id in ("", "a b", "x" * 129, "ü", "a\n"):
        assert (await api.get("/updates", webrtc_id=webrtc_id))[0] == 422
    reader = Reader(api.url + "/updates", "alice")
    await reader.opened.wait()
    async with api.session.get(api.url + "/updates?webrtc_id=alice") as response:
        assert response.status == 503
        assert "Retry-After" in response.headers
    await reader.close()


async def test_latest(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    waiting = asyncio.create_task(api.get("/outputs/latest", webrtc_id="alice"))
    await asyncio.sleep(0.2)
    await worker.put("alice", "[1]")
    status, body = await waiting
    assert (status, body["args"]) == (200, [1])
    await worker.put("alice", "[2]", "[3, NaN]")
    status, newest = await api.get("/outputs/latest", webrtc_id="alice")
    assert (status, newest["args"]) == (200, [3, None])
    status, failure = await api.get(
        "/outputs/latest", webrtc_id="alice", after=newest["id"], timeout=0.2
    )
    assert (status, failure["meta"]["error"]) == (504, "output_timeout")
    status, same = await api.get("/outputs/latest", webrtc_id="alice", timeout=0)
    assert (status, same) == (200, newest)
    assert (await api.get("/outputs/latest", webrtc_id="nobody", timeout=0))[0] == 404
    for timeout in ("nan", "inf", "-1", "61", "x"):
        got, _ = await api.get("/outputs/latest", webrtc_id="alice", timeout=timeout)
        assert got == 422
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    status, failure = await api.get("/outputs/latest", webrtc_id="alice", after=newest["id"])
    assert (status, failure["meta"]["error"]) == (410, "connection_closed")
    future = "999999999999999-1"
    started = asyncio.get_running_loop().time()
    assert (await api.get("/outputs/latest", webrtc_id="alice", after=future))[0] == 410
    assert asyncio.get_running_loop().time() - started < 4


async def test_two_hundred_readers(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    readers = [Reader(api.url + "/updates", "alice") for _ in range(200)]
    await asyncio.gather(*(reader.opened.wait() for reader in readers))
    await worker.put("alice", *(f"[{n}]" for n in range(50)))
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    await asyncio.wait_for(asyncio.gather(*(reader.task for reader in readers)), 20)
    for reader in readers:
        assert [e.data for e in reader.outputs()] == [str(n) for n in range(50)]
        assert reader.events[-1].name == "end"


async def test_stopping_server_ends_streams_at_once(
    settings: object, replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers(1)
    from control_plane.app import create_app

    app = create_app(make_stream())
    async with serving(app, settings) as (url, server):  # type: ignore[arg-type]
        elsewhere = await replica()
        await elsewhere.offer("alice")
        await worker.put("alice", "[0]")
        readers = [Reader(url + "/updates", "alice") for _ in range(20)]
        await asyncio.gather(*(reader.wait_for(1) for reader in readers))
        api = Api(elsewhere.session, url)
        polling = asyncio.create_task(
            api.get("/outputs/latest", webrtc_id="alice", after=readers[0].cursor)
        )
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        server.should_exit = True
        await asyncio.wait_for(asyncio.gather(*(reader.task for reader in readers)), 2)
        assert not any(reader.lost for reader in readers)
        assert (await polling)[0] == 503
    assert asyncio.get_running_loop().time() - started < 2
    await worker.put("alice", "[1]")
    again = Reader(elsewhere.url + "/updates", "alice", readers[0].cursor)
    await again.wait_for(1)
    assert again.events[0].data == "1"
    await again.close()


def test_encoding_of_events() -> None:
    assert event("a\r\nb\rc\nd\u2028e\n", id="1-1") == (
        "id: 1-1\ndata: a\ndata: b\ndata: c\ndata: d\u2028e\ndata: \n\n".encode()
    )
    assert event("", name="end") == b"event: end\ndata: \n\n"
    assert event("\ud800") == b"data: ?\n\n"
