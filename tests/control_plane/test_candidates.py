"""Remote candidates reach their worker however they race with the offer: else calls fail."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from control_plane import candidates
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import Api, Replica, Workers
from tests.control_plane.worker import answered, refusing, silent

CANDIDATE = {
    "candidate": "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host",
    "sdpMid": "0",
    "sdpMLineIndex": 0,
    "usernameFragment": "abcd",
}
TAKEN = (200, {"status": "success"})


async def test_candidates_and_their_end(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    for candidate in (CANDIDATE, {"candidate": "candidate:1 1 udp", "foo": 1}, None, ""):
        assert await api.candidate("alice", candidate) == TAKEN
    end = {"candidate": "", "sdpMid": "0", "sdpMLineIndex": 1.0}
    assert await api.candidate("alice", end) == TAKEN
    nulls = {"candidate": "", "sdpMid": None, "sdpMLineIndex": None, "usernameFragment": None}
    assert await api.candidate("alice", nulls) == TAKEN
    first, second, *ends = (request["candidate"] for request in worker.candidates)
    assert first == CANDIDATE
    assert second["candidate"] == "candidate:1 1 udp"
    assert ends == [None, None, None, None]
    assert await api.metric('rayrtc_candidates_total{outcome="taken"}') == 6


async def test_candidate_goes_through_any_replica_and_may_overtake_its_offer(
    replica: Replica, workers: Workers
) -> None:
    (worker,) = await workers(1)
    first, second = await replica(), await replica()
    early = asyncio.create_task(second.candidate("alice", CANDIDATE))
    await asyncio.sleep(0.5)
    assert not early.done()
    assert (await first.offer("alice"))[0] == 200
    assert await early == TAKEN
    assert len(worker.candidates) == 1


async def test_unknown_id_is_404_after_the_wait(replica: Replica, workers: Workers) -> None:
    await workers(1)
    api = await replica(worker_timeout=8.0)
    started = asyncio.get_running_loop().time()
    status, body = await api.candidate("nobody", CANDIDATE)
    assert (status, body["meta"]["error"]) == (404, "unknown_connection")
    assert 2.5 < asyncio.get_running_loop().time() - started < 4.5


async def test_waiting_candidates_are_bounded(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "CANDIDATE_WAIT", 6.0)  # however slow the machine is
    await workers(1)
    api = await replica(worker_timeout=8.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        many = Api(session, api.url)
        sent = [asyncio.create_task(many.candidate(f"n{n}", CANDIDATE)) for n in range(300)]
        async with asyncio.timeout(5):
            while sum(task.done() for task in sent) < 44:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        done, waiting = await asyncio.wait(sent, timeout=0)
        assert len(waiting) == 256
        assert {task.result()[0] for task in done} == {404}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    monkeypatch.setattr(candidates, "CANDIDATE_WAIT", 3.0)
    started = asyncio.get_running_loop().time()
    assert (await api.candidate("alice", CANDIDATE))[0] == 404
    assert asyncio.get_running_loop().time() - started > 2.5, "places of clients that left are kept"


async def test_ended_connection_is_410(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    status, body = await api.candidate("alice", CANDIDATE)
    assert (status, body["meta"]["error"]) == (410, "connection_closed")


async def test_workers_word_is_passed_on(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    for status, code in (
        (400, "invalid_candidate_format"),
        (404, "unknown_connection"),
        (410, "connection_closed"),
    ):
        worker.candidate = refusing(status, code)
        got, body = await api.candidate("alice", CANDIDATE)
        assert (got, body["meta"]["error"]) == (status, code)
    worker.candidate = silent
    got, body = await api.candidate("alice", CANDIDATE)
    assert (got, body["meta"]["error"]) == (503, "no_worker_available")


async def test_candidate_follows_an_offer_that_moved(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """While the first worker is asked, the offer moves on: the candidate must not end as 404."""
    two = await workers(2)
    api = await replica()
    moved = asyncio.Event()

    async def full(body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(0.5)
        for worker in two:
            worker.offer = answered
        return await refusing(503, "refused")(body)

    async def unknown(body: dict[str, Any]) -> web.Response:
        await moved.wait()
        for worker in two:
            worker.candidate = answered
        return await refusing(404, "unknown_connection")(body)

    for worker in two:
        worker.offer, worker.candidate = full, unknown
    offer = asyncio.create_task(api.offer("alice"))
    while not any(worker.offers for worker in two):
        await asyncio.sleep(0.01)
    candidate = asyncio.create_task(api.candidate("alice", CANDIDATE))
    assert (await offer)[0] == 200
    moved.set()
    assert await candidate == TAKEN
    holder = next(worker for worker in two if "alice" in worker.live)
    assert holder.candidates[-1]["connection_id"] == "alice"
