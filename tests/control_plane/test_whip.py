"""WHIP and WHEP as a publisher, a player, a browser and a proxy see them."""

from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI

from rayrtc import Stream
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import SDP, Replica, Workers, held, make_stream, none_held
from tests.control_plane.whip_client import (
    CANDIDATE,
    FRAGMENT,
    OFFER,
    RESTART,
    SDP_TYPE,
    ask,
    code,
    patch,
    publish,
)
from tests.control_plane.worker import refusing, silent


async def test_a_publisher_comes_and_goes(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    """201 with what RFC 9725 promises; the id in `Location` is that of all other routes."""
    (worker,) = await workers(1)
    api = await replica()
    status, headers, answer = await publish(api, X_Request_ID="mine")
    assert (status, headers["Content-Type"]) == (201, "application/sdp")
    assert answer.startswith("v=0\r\n")
    assert headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
    assert headers["X-Request-ID"] == worker.offers[0]["request_id"] == "mine"
    location = headers["Location"]
    id = location.removeprefix("/whip/")
    assert worker.offers[0]["connection_id"] == id
    assert "a=sendonly" in worker.offers[0]["sdp"]
    assert await api.post("/input_hook", {"webrtc_id": id, "inputs": [1]}) == (
        200,
        {"status": "success"},
    )
    assert await api.metric('rayrtc_offers_total{outcome="answered",stream="default"}') == 1
    for method in ("GET", "HEAD"):
        status, _, text = await ask(api, method, location)
        assert (status, text) == (204, "")
    # RFC 9725, 4.3.1: an entity tag is ignored here
    status, _, text = await ask(api, "DELETE", location, If_Match='"another"')
    assert (status, text) == (200, '{"status":"success"}')
    assert await held(cluster) == 0
    record = await cluster.registry.find(id)
    assert record is not None
    assert record.reason is EndReason.CLIENT_CLOSED
    assert code(await ask(api, "DELETE", location)) == (410, "connection_closed")
    assert code(await patch(api, location)) == (410, "connection_closed")


async def test_candidates_through_any_replica(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    first, second = await replica(), await replica()
    _, headers, _ = await publish(first)
    location, tag = headers["Location"], headers["ETag"]
    status, headers, text = await patch(second, location, If_Match=tag)
    assert (status, text, "ETag" in headers) == (204, "", False)
    candidate, end = (request["candidate"] for request in worker.candidates)
    assert (candidate["candidate"], candidate["sdpMid"]) == (CANDIDATE, "0")
    assert end is None
    assert (await ask(second, "DELETE", location))[0] == 200
    assert worker.released[0]["reason"] == "client_closed"


async def test_a_fragment_is_for_an_ice_session(replica: Replica, workers: Workers) -> None:
    """RFC 9725, 4.3: 428, 412, and 422 for a restart, which leaves the session as it is."""
    (worker,) = await workers(1)
    api = await replica()
    _, headers, _ = await publish(api)
    location, tag = headers["Location"], headers["ETag"]
    _, other, _ = await publish(api)
    assert other["ETag"] != tag
    required, failed = (428, "precondition_required"), (412, "precondition_failed")
    assert code(await patch(api, location)) == required
    for wrong in (other["ETag"], f"W/{tag}", tag.strip('"'), '""', ","):
        assert code(await patch(api, location, If_Match=wrong)) == failed, wrong
    restart = (422, "ice_restart_unsupported")
    for given in ("*", '"*"', tag):
        assert code(await patch(api, location, RESTART, If_Match=given)) == restart
    assert code(await patch(api, location, RESTART, If_Match=other["ETag"])) == failed
    assert worker.candidates == []
    for given in ("*", '"*"', f'"x", {tag}'):
        assert (await patch(api, location, If_Match=given))[0] == 204


async def test_fragments_that_are_none(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    _, headers, _ = await publish(api)
    location, tag = headers["Location"], headers["ETag"]
    assert code(await patch(api, location, "hello", If_Match=tag)) == (400, "invalid_sdp")
    typ = FRAGMENT.replace("typ", "type")
    invalid = (400, "invalid_candidate_format")
    assert code(await patch(api, location, typ, If_Match=tag)) == invalid
    assert code(await patch(api, location, "x" * (128 << 10) + "x", If_Match=tag)) == (
        413,
        "too_large",
    )
    refused = await patch(api, location, If_Match=tag, Content_Type="application/sdp")
    assert code(refused) == (415, "unsupported_media_type")
    assert refused[1]["Accept-Patch"] == "application/trickle-ice-sdpfrag"
    assert worker.candidates == []
    # of a kind that the worker has no use for: the others still count
    worker.candidate = refusing(400, "invalid_candidate_format")
    assert (await patch(api, location, If_Match=tag))[0] != 500
    assert len(worker.candidates) == 2


async def test_sessions_that_are_not_there(replica: Replica, workers: Workers) -> None:
    """404: no such id, another stream's, one of the other protocol, one of `/webrtc/offer`."""
    await workers(1)
    app = FastAPI()
    make_stream().mount(app)
    make_stream(name="second").mount(app, "/second")
    api = await replica(app)
    await api.offer("alice")
    _, headers, _ = await publish(api)
    location, tag = headers["Location"], headers["ETag"]
    unknown = (404, "unknown_connection")
    for path in (
        location[:-1] + ("0" if location[-1] != "0" else "1"),
        location.replace("/whip/", "/whep/"),
        "/second" + location,
        "/whip/alice",
        "/whip/" + "a" * 2000,
        "/whip/%00%ff",
    ):
        assert code(await ask(api, "DELETE", path)) == unknown, path
        assert code(await patch(api, path, If_Match=tag)) == unknown, path
        assert code(await ask(api, "GET", path)) == unknown, path
    assert (await ask(api, "DELETE", location))[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (OFFER, {"Content-Type": "application/json"}, (415, "unsupported_media_type")),
        (OFFER, {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
        (OFFER, {**SDP_TYPE, "Accept": "text/html"}, (406, "not_acceptable")),
        (OFFER, {**SDP_TYPE, "Accept": "*/*, application/sdp;q=0"}, (406, "not_acceptable")),
        ("", SDP_TYPE, (400, "invalid_sdp")),
        ("hello", SDP_TYPE, (400, "invalid_sdp")),
        (b"\xff\xfe", SDP_TYPE, (400, "invalid_sdp")),
        (OFFER + "a=x\x00\r\n", SDP_TYPE, (400, "invalid_sdp")),
        (OFFER.replace("sendonly", "recvonly"), SDP_TYPE, (400, "invalid_sdp")),
        (OFFER.replace("a=ice-ufrag:abcd\r\n", ""), SDP_TYPE, (400, "invalid_sdp")),
        (OFFER + "a=x:" + "y" * (128 << 10) + "\r\n", SDP_TYPE, (413, "too_large")),
    ],
    ids=range(11),  # pytest puts them into the environment, which has no room for such bodies
)
async def test_offers_that_are_refused(
    replica: Replica,
    workers: Workers,
    cluster: Cluster,
    body: Any,
    headers: dict[str, str],
    expected: tuple[int, str],
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    answer = await ask(api, "POST", "/whip", body, **headers)
    assert code(answer) == expected
    if expected[0] == 415:
        assert answer[1]["Accept-Post"] == "application/sdp"
    if expected[1] == "invalid_sdp":
        sample = 'rayrtc_offers_total{outcome="invalid_sdp",stream="default"}'
        assert await api.metric(sample) == 1
    assert worker.offers == []
    assert await held(cluster) == 0


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*;q=0.5", "Application/SDP", "text/html, */*;q=0.1"]
)
async def test_what_clients_accept(replica: Replica, workers: Workers, accept: str) -> None:
    await workers(1)
    api = await replica()
    content_type = "application/SDP; charset=utf-8"
    answer = await ask(api, "POST", "/whip", OFFER, Accept=accept, Content_Type=content_type)
    assert answer[0] == 201


async def test_limits_hold(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    """429 and 503 with `Retry-After`, as for any other transport; nothing stays reserved."""
    (worker,) = await workers(1)
    api = await replica(make_stream(concurrency_limit=1), worker_timeout=1.0)
    _, headers, _ = await publish(api)
    full = await publish(api)
    assert code(full) == (429, "concurrency_limit_reached")
    assert full[1]["Retry-After"].isdecimal()
    assert (await ask(api, "DELETE", headers["Location"]))[0] == 200
    worker.offer = silent
    late = await publish(api)
    assert code(late) == (503, "no_worker_available")
    assert late[1]["Retry-After"].isdecimal()
    await none_held(cluster)


async def test_players(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    offer = SDP.replace("sendrecv", "recvonly")
    status, headers, _ = await ask(api, "POST", "/whep", offer, Content_Type="application/sdp")
    assert status == 201
    assert headers["Location"].startswith("/whep/whep-")
    assert "a=recvonly" in worker.offers[0]["sdp"]
    assert code(await publish(api, "/whep")) == (400, "invalid_sdp")
    # how a player finds out that this is WHEP
    status, headers, _ = await ask(api, "HEAD", "/whep")
    assert (status, headers["Content-Type"]) == (200, "application/sdp")


async def silence_generator() -> Any:
    yield None


@pytest.mark.parametrize(
    ("mode", "there", "absent"), [("send", "whip", "whep"), ("receive", "whep", "whip")]
)
async def test_streams_of_one_direction(
    replica: Replica, workers: Workers, mode: Any, there: str, absent: str
) -> None:
    """The other protocol has no endpoint, whatever the method, and the answer says why."""
    await workers(1)
    stream = make_stream(mode=mode)
    if mode == "receive":
        stream = Stream(silence_generator, modality="audio", mode=mode, concurrency_limit=9)
    api = await replica(stream)
    offer = SDP.replace("sendrecv", "sendonly" if mode == "send" else "recvonly")
    status, _, _ = await ask(api, "POST", f"/{there}", offer, Content_Type="application/sdp")
    assert status == 201
    for method in ("POST", "GET", "OPTIONS", "PUT"):
        answer = await ask(api, method, f"/{absent}", offer, Content_Type="application/sdp")
        assert code(answer) == (404, "unsupported_mode")
        assert mode in answer[2]
    _, document = await api.get("/openapi.json")
    assert (f"/{there}" in document["paths"], f"/{absent}" in document["paths"]) == (True, False)


async def test_other_methods(replica: Replica, workers: Workers) -> None:
    """405 with all that there is in `Allow`; GET has nothing to say (RFC 9725, 4.1)."""
    await workers(1)
    api = await replica()
    _, headers, _ = await publish(api)
    for path, methods, allowed in (
        ("/whip", ("PUT", "PATCH", "DELETE", "TRACE"), "GET, HEAD, OPTIONS, POST"),
        (headers["Location"], ("PUT", "POST"), "DELETE, GET, HEAD, OPTIONS, PATCH"),
    ):
        for method in methods:
            answer = await ask(api, method, path)
            assert code(answer) == (405, "method_not_allowed")
            assert answer[1]["Allow"] == allowed
    for method in ("GET", "HEAD"):
        status, headers, text = await ask(api, method, "/whip")
        assert (status, text, headers["Content-Length"]) == (200, "", "0")


async def test_the_path_as_the_caller_saw_it(replica: Replica, workers: Workers) -> None:
    """Behind a proxy that strips a prefix, `Location` has it."""
    await workers(1)
    app = FastAPI()
    make_stream(name="default").mount(app, "/live")
    api = await replica(app)
    _, headers, _ = await publish(api, "/live/whip", X_Forwarded_Prefix="/media")
    location = headers["Location"]
    assert location.startswith("/media/live/whip/whip-")
    path = location.removeprefix("/media")
    assert (await ask(api, "DELETE", path, X_Forwarded_Prefix="/media"))[0] == 200


async def test_ice_servers_are_told(replica: Replica, workers: Workers) -> None:
    """RFC 9725, 4.6; one that no header can carry is left out."""
    await workers(1)
    servers = [
        {"urls": "stun:stun.example:3478"},
        {
            "urls": ["turn:turn.example?transport=udp", "turns:turn.example?transport=tcp"],
            "username": "user",
            "credential": 'pass"\\word',
        },
        {"urls": "turn:turn.example", "username": "ü", "credential": "x\r\nSet-Cookie: a"},
        {"urls": "http://example"},
    ]
    api = await replica(make_stream(rtc_configuration={"iceServers": servers}))
    _, headers, _ = await publish(api)
    login = 'username="user"; credential="pass\\"\\\\word"; credential-type="password"'
    assert headers.getall("Link") == [
        '<stun:stun.example:3478>; rel="ice-server"',
        f'<turn:turn.example?transport=udp>; rel="ice-server"; {login}',
        f'<turns:turn.example?transport=tcp>; rel="ice-server"; {login}',
    ]


async def test_ice_servers_that_cannot_be_had(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    await workers(1)

    def fail() -> dict[str, Any]:
        raise OSError("no TURN today")

    api = await replica(make_stream(rtc_configuration=fail))
    assert code(await publish(api)) == (503, "ice_servers_unavailable")
    assert await held(cluster) == 0


async def test_an_application_keeps_its_own_routes(replica: Replica, workers: Workers) -> None:
    await workers(1)
    app = FastAPI()
    make_stream().mount(app)

    @app.post("/whip")
    async def own() -> str:
        return "own"

    @app.put("/whep")
    async def put() -> str:
        return "put"

    api = await replica(app)
    assert (await publish(api))[2] == '"own"'
    assert (await ask(api, "PUT", "/whep"))[2] == '"put"'


async def test_a_publisher_that_hangs_up_while_it_waits(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    worker.offer = silent
    api = await replica()
    with pytest.raises(TimeoutError):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as session:
            await session.post(api.url + "/whip", data=OFFER, headers=SDP_TYPE)
    await none_held(cluster)
