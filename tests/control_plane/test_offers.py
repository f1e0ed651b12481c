"""Offers find a worker and no failure keeps a slot: else a cluster fills up with nobody in it."""

import asyncio

import aiohttp
import pytest

from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import SDP, Replica, Workers, held, make_stream, none_held
from tests.control_plane.worker import ANSWER, answered, refusing, silent


async def test_offer_is_answered_and_counted(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    assert await api.offer("alice") == (200, {"sdp": ANSWER, "type": "answer"})
    (sent,) = worker.offers
    assert sent["sdp"] == SDP
    assert (sent["connection_id"], sent["stream"], sent["inputs"]) == ("alice", "default", None)
    assert await held(cluster) == 1
    assert await api.metric('rayrtc_offers_total{outcome="answered",stream="default"}') == 1
    assert await api.metric('rayrtc_slots{state="used"}') == 1
    assert await api.metric('rayrtc_slots{state="total"}') == 8
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    assert await api.metric('rayrtc_slots{state="used"}') == 0


async def test_request_id_goes_through(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    body = {"sdp": SDP, "type": "offer", "webrtc_id": "alice"}
    headers = {"X-Request-ID": "req-1"}
    async with api.session.post(api.url + "/webrtc/offer", json=body, headers=headers) as response:
        assert response.headers["X-Request-ID"] == "req-1"
    assert worker.offers[0]["request_id"] == "req-1"
    headers = {"X-Request-ID": "no good " * 40}
    async with api.session.post(api.url + "/webrtc/offer", json=body, headers=headers) as response:
        assert response.status == 409
        assert len(response.headers["X-Request-ID"]) == 32


async def test_last_inputs_come_back_with_the_id(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    assert (await api.post("/input_hook", {"webrtc_id": "alice", "inputs": [1, "x"]}))[0] == 200
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    assert (await api.offer("alice"))[0] == 200
    assert worker.offers[1]["inputs"] == '[1,"x"]'
    assert worker.offers[1]["inputs_seq"] >= 1
    assert worker.offers[1]["session"] > worker.offers[0]["session"]


async def test_limit_is_429_with_the_contracts_body(replica: Replica, workers: Workers) -> None:
    await workers(1)
    api = await replica(make_stream(concurrency_limit=2))
    answers = await asyncio.gather(*(api.offer(f"c{number}") for number in range(10)))
    assert sorted(status for status, _ in answers) == [200] * 2 + [429] * 8
    body = {"sdp": SDP, "type": "offer", "webrtc_id": "late"}
    async with api.session.post(api.url + "/webrtc/offer", json=body) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "1"
        assert await response.json() == {
            "status": "failed",
            "meta": {"error": "concurrency_limit_reached", "limit": 2},
        }


async def test_no_worker_is_503(replica: Replica) -> None:
    api = await replica()
    body = {"sdp": SDP, "type": "offer", "webrtc_id": "alice"}
    async with api.session.post(api.url + "/webrtc/offer", json=body) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert (await response.json())["meta"]["error"] == "no_worker_available"


async def test_id_in_use_is_409(replica: Replica, workers: Workers) -> None:
    """Defect 4: two offers with one id could both succeed."""
    await workers(1)
    api = await replica()
    await api.offer("alice")
    status, body = await api.offer("alice")
    assert (status, body["meta"]["error"]) == (409, "connection_already_exists")


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (400, "invalid_sdp", 400),
        (400, "unsupported_track", 400),
        (409, "connection_already_exists", 409),
    ],
)
async def test_refusal_of_the_offer_itself_is_told_and_releases(
    replica: Replica, workers: Workers, cluster: Cluster, status: int, code: str, answer: int
) -> None:
    """Defect 4: a failing offer leaked its slot for ever."""
    two = await workers(2)
    for worker in two:
        worker.offer = refusing(status, code)
    api = await replica()
    for _ in range(5):  # the same id at once again: it is free when the answer is there
        got, body = await api.offer("alice")
        assert (got, body["meta"]["error"], body["meta"]["detail"]) == (
            answer,
            code,
            "told by the worker",
        )
    assert await held(cluster) == 0
    assert sum(len(worker.offers) for worker in two) == 5


async def test_worker_that_refuses_is_passed_over(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    three = await workers(3)
    api = await replica()
    for worker in three[:2]:
        worker.offer = refusing(503, "refused")
    for number in range(6):
        assert (await api.offer(f"c{number}"))[0] == 200
    assert len(three[2].offers) == 6
    assert await held(cluster) == 6


async def test_all_workers_refuse(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    four = await workers(4)
    for worker in four:
        worker.offer = refusing(503, "refused")
    api = await replica()
    status, body = await api.offer("alice")
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    assert sum(len(worker.offers) for worker in four) == 3
    assert await held(cluster) == 0


async def test_silent_worker_is_passed_over_and_told(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    two = await workers(2)
    for worker in two:
        worker.offer = silent
    api = await replica()
    started = asyncio.get_running_loop().time()
    status, body = await api.offer("alice")
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    assert asyncio.get_running_loop().time() - started < 3
    await none_held(cluster)
    assert [len(worker.released) for worker in two] == [1, 1]
    two[0].offer = answered
    two[1].offer = silent
    status, _ = await api.offer("bob")
    assert status == 200
    assert await held(cluster) == 1


async def test_dead_worker_is_passed_over(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    two = await workers(2)
    two[0].address = "http://127.0.0.1:9"  # nobody listens there
    await two[0].renew()
    api = await replica()
    for number in range(6):
        assert (await api.offer(f"c{number}"))[0] == 200
    assert await held(cluster) == 6


async def test_wrong_secret_is_not_the_clients_fault(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    worker.secret = "another secret"
    api = await replica()
    status, body = await api.offer("alice")
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    await none_held(cluster)


async def test_client_that_leaves_frees_the_slot(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    worker.offer = silent
    api = await replica(worker_timeout=20.0)
    body = {"sdp": SDP, "type": "offer", "webrtc_id": "alice"}
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.post(api.url + "/webrtc/offer", json=body))
        while not worker.offers:
            await asyncio.sleep(0.02)
        assert await held(cluster) == 1
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await none_held(cluster)
    assert [body["connection_id"] for body in worker.released] == ["alice"]
    assert await api.metric('rayrtc_offers_total{outcome="cancelled",stream="default"}') == 1
    assert await api.metric('rayrtc_offers_total{outcome="error",stream="default"}') == 0


async def test_clients_that_leave_at_any_moment_free_their_slots(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1, slots=100)
    worker.offer = silent
    api = await replica(worker_timeout=20.0)

    async def leave(number: int) -> None:
        body = {"sdp": SDP, "type": "offer", "webrtc_id": f"c{number}"}
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(0.0005 * number):
                    await session.post(api.url + "/webrtc/offer", json=body)
            except TimeoutError:
                pass

    await asyncio.gather(*(leave(number) for number in range(80)))
    await none_held(cluster)


@pytest.mark.parametrize(
    "sdp",
    [
        "x",
        "v=0\r\n",
        SDP[: len(SDP) // 2],
        SDP.replace("a=fingerprint", "a=fingerprnt"),
        SDP.replace("a=ice-ufrag", "a=ice-ufrog"),
        SDP.replace("m=audio 9", "m=audio nine"),
        SDP.replace("m=audio", "x=audio"),
        SDP.replace("\r\n", "\0"),
        SDP.replace("s=-", "s=\0"),
        SDP + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" * 40,
        "v=0\r\n" * 10_000,
    ],
)
async def test_garbage_reserves_nothing(
    replica: Replica, workers: Workers, cluster: Cluster, sdp: str
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    status, body = await api.offer("alice", sdp)
    assert (status, body["meta"]["error"]) == (400, "invalid_sdp")
    assert not worker.offers
    assert await cluster.registry.find("alice") is None


async def test_redis_away_is_503(replica: Replica) -> None:
    api = await replica(redis_url="redis://127.0.0.1:9/0")
    status, body = await api.offer("alice")
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    status, body = await api.post("/input_hook", {"webrtc_id": "alice", "inputs": [1]})
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    for path in ("/updates", "/outputs", "/outputs/latest"):
        status, body = await api.get(path, webrtc_id="alice")
        assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    assert (await api.get("/readyz"))[0] == 503
    assert (await api.get("/healthz")) == (200, {"status": "ok"})
    assert await api.metric("rayrtc_redis_up") == 0
    assert await api.metric("rayrtc_redis_errors_total") >= 4
