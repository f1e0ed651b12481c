"""A client takes over its own connection: else a lost network locks it out by its own id."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from control_plane.resume_token import LENGTH_MAX, ResumeTokens
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import ConnectionState, EndReason
from rayrtc.settings import Settings
from tests.control_plane.conftest import (
    SDP,
    SECRET,
    Api,
    Replica,
    Workers,
    held,
    make_stream,
    none_held,
)
from tests.control_plane.worker import ANSWER, refusing, silent
from tests.e2e.sse import Reader

RESUMED = 'rayrtc_offers_total{outcome="resumed",stream="default"}'


async def offer(
    api: Api, webrtc_id: str = "alice", token: str | None = None, path: str = "", sdp: str = SDP
) -> tuple[int, Any, str | None]:
    """Status, body and token of an offer."""
    body = {"sdp": sdp, "type": "offer", "webrtc_id": webrtc_id}
    headers = {} if token is None else {"Resume-Token": token}
    url = f"{api.url}{path}/webrtc/offer"
    async with api.session.post(url, json=body, headers=headers) as response:
        return response.status, await response.json(), response.headers.get("Resume-Token")


async def session(cluster: Cluster, connection_id: str = "alice") -> int:
    record = await cluster.registry.find(connection_id)
    assert record is not None
    assert record.state is not ConnectionState.CLOSED
    return record.session


async def test_own_connection_is_taken_over(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """A stream of one connection has one all the time, and its old worker is told at once."""
    two = await workers(2)
    api = await replica(make_stream(concurrency_limit=1))
    status, body, token = await offer(api)
    assert (status, body) == (200, {"sdp": ANSWER, "type": "answer"})
    assert token is not None
    assert len(token) <= LENGTH_MAX
    first = await session(cluster)
    for _ in range(3):
        status, body, newer = await offer(api, token=token)
        assert (status, body) == (200, {"sdp": ANSWER, "type": "answer"})
        assert newer is not None
        assert newer != token
        assert await held(cluster) == 1
        assert (await offer(api, token=token))[0] == 409, "it is of a session that has ended"
        assert (await offer(api, "bob"))[0] == 429
        token = newer
    assert await session(cluster) > first
    told = [body for worker in two for body in worker.released]
    assert first in {body["session"] for body in told}
    assert {body["reason"] for body in told} == {"replaced"}
    assert len(told) == 3
    assert await api.metric(RESUMED) == 3
    assert sum(len(worker.live) for worker in two) == 1


async def test_many_at_once_are_one(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    """Of offers with one token one is taken; none is counted twice."""
    await workers(2)
    apis = [await replica(make_stream(concurrency_limit=1)) for _ in range(2)]
    _, _, token = await offer(apis[0])
    answers = await asyncio.gather(*(offer(apis[n % 2], token=token) for n in range(20)))
    assert sorted(status for status, _, _ in answers) == [200] + [409] * 19
    assert await held(cluster) == 1


async def test_another_token_is_as_none(
    replica: Replica, workers: Workers, cluster: Cluster, settings: Settings
) -> None:
    await workers(1)
    app = FastAPI()
    make_stream().mount(app)
    make_stream(name="second").mount(app, "/second")
    api = await replica(app)
    _, _, token = await offer(api)
    assert token is not None
    _, _, foreign = await offer(api, "bob")
    _, _, second = await offer(api, "carol", path="/second")
    current = await session(cluster)
    version, _, signature = token.split(".")
    wrong = [
        foreign,
        second,
        "",
        "x" * 20_000,
        "\xff\xfe",
        token[:-1],
        token + "A",
        f"{version}.{current + 1}.{signature}",
        f"{version}.{current}.{signature[::-1]}",
        f"2.{current}.{signature}",
        ResumeTokens(settings.cluster, SECRET).make("second", "alice", current),
        ResumeTokens(settings.cluster, "another secret").make("default", "alice", current),
        ResumeTokens("another", SECRET).make("default", "alice", current),
    ]
    refused = [await offer(api, token=one) for one in wrong]
    assert {status for status, _, _ in refused} == {409}
    assert len({str(body) for _, body, _ in refused}) == 1
    assert [token for _, _, token in refused if token] == []
    assert (await offer(api, "carol", token=second))[0] == 409, "it is another stream's"
    assert (await offer(api, "new", token=foreign))[0] == 200, "it does not matter for a free id"
    assert await session(cluster) == current
    assert ResumeTokens(settings.cluster, SECRET).make("default", "alice", current) == token


async def test_other_replica_and_emptied_redis(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """The token is all that is needed, wherever the offer arrives and whatever was forgotten."""
    await workers(1)
    _, _, token = await offer(await replica())
    await cluster.pools.commands.flushall()
    api = await replica()
    status = 503
    async with asyncio.timeout(5):
        while status == 503:
            status, _, token_again = await offer(api, token=token)
            await asyncio.sleep(0.05)
    assert status == 200
    assert token_again != token
    assert await held(cluster) == 1


async def test_own_slot_is_enough(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    """The one slot of the one worker is the connection's own: it does not stand in its way."""
    (worker,) = await workers(1, slots=1)
    api = await replica()
    _, _, token = await offer(api)
    assert (await offer(api, token=token))[0] == 200
    assert (await offer(api, "bob"))[0] == 503
    assert [body["reason"] for body in worker.released] == ["replaced"]


async def test_what_cannot_be_taken_over_goes_on(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """No SDP, no worker: the call that is there stays as it is."""
    (worker,) = await workers(1)
    api = await replica()
    _, _, token = await offer(api)
    before = await session(cluster)
    assert (await offer(api, token=token, sdp="v=0\r\n"))[0] == 400
    worker.slots = 0
    await worker.renew()
    status, body, _ = await offer(api, token=token)
    assert (status, body["meta"]["error"]) == (503, "no_worker_available")
    assert await session(cluster) == before
    assert worker.released == []
    assert "alice" in worker.live


async def test_worker_that_refuses_leaves_the_id_free(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """The old connection has ended; the client that tries again is not locked out by it."""
    (worker,) = await workers(1)
    api = await replica()
    _, _, token = await offer(api)
    answered, worker.offer = worker.offer, refusing(503, "refused")
    assert (await offer(api, token=token))[0] == 503
    assert await held(cluster) == 0
    worker.offer = answered
    assert (await offer(api, token=token))[0] == 200
    assert await api.metric(RESUMED.replace("resumed", "answered")) == 2


async def test_client_that_leaves_meanwhile_frees_all(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    api = await replica(worker_timeout=20.0)
    _, _, token = await offer(api)
    worker.offer = silent
    request = asyncio.create_task(offer(api, token=token))
    async with asyncio.timeout(5):
        while len(worker.offers) < 2:
            await asyncio.sleep(0.02)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await none_held(cluster)
    assert [body["reason"] for body in worker.released] == ["replaced", "refused"]


@pytest.mark.parametrize("gone", [False, True])
async def test_readers_go_on_with_the_new_session(
    replica: Replica, workers: Workers, cluster: Cluster, gone: bool
) -> None:
    """Nothing twice, nothing lost, no end between: with the old worker there, and without it."""
    (worker,) = await workers(1)
    api = await replica()
    _, _, token = await offer(api)
    await worker.put("alice", "[1]", "[2]")
    first = Reader(api.url + "/outputs", "alice")
    await first.wait_for(2, "output")
    if gone:
        # whoever held the call is not reached
        worker.live.clear()
        key = Keys(cluster.settings.cluster).connection("alice")
        await cluster.pools.commands.hset(key, "address", "http://127.0.0.1:9")  # type: ignore[misc]
    assert (await offer(api, token=token))[0] == 200
    await worker.put("alice", "[3]")
    back = Reader(api.url + "/outputs", "alice", last_event_id=first.cursor)
    await first.wait_for(3, "output")
    await back.wait_for(1, "output")
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    for reader, expected in ((first, ["[1]", "[2]", "[3]"]), (back, ["[3]"])):
        async with asyncio.timeout(5):
            await reader.task
        assert [event.data for event in reader.events[:-1]] == expected
        assert (reader.events[-1].name, reader.events[-1].data) == (
            "end",
            '{"reason": "client_closed"}',
        )


async def test_openapi_tells_of_the_token(replica: Replica) -> None:
    api = await replica()
    _, document = await api.get("/openapi.json")
    operation = document["paths"]["/webrtc/offer"]["post"]
    assert "Resume-Token" in operation["responses"]["200"]["headers"]
    assert [one["name"] for one in operation["parameters"]] == ["Resume-Token"]
