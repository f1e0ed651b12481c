"""HTTP routes: what they answer, and what they refuse."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.clients import AiortcClient
from tests.conformance.call import calling, failed, request

UNKNOWN = "nobody-has-this-id"
CANDIDATE = {"candidate": "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host", "sdpMid": "0"}


async def offer(kinds: tuple[str, ...] = ("audio",)) -> dict[str, Any]:
    """A body that would be answered."""
    client = AiortcClient("", kinds=kinds)
    try:
        return await client.create_offer()
    finally:
        await client.close()


async def test_an_offer_and_everything_about_its_connection(base_url: str) -> None:
    """200, then 409 for its id; after its end 410, and its outputs can still be read"""
    url = base_url + "/obedient"
    async with calling(base_url) as call:
        again = {**await offer(), "webrtc_id": call.id}
        failed(
            "connection_already_exists", await request("POST", url + "/webrtc/offer", json=again)
        )
        await call.command("count", 1)
        await call.message("fetch_output", 2)
        status, latest = await call.latest()
        assert (status, latest["args"]) == (200, [0])
        await call.command("close", "done")
        await call.ended()
        for body in (None, CANDIDATE):
            failed("connection_closed", await trickle(url, call.id, body))
        body = {"webrtc_id": call.id, "inputs": ["count", 2]}
        failed("connection_closed", await request("POST", url + "/input_hook", json=body))
        assert (await call.latest())[1]["args"] == [0]


async def test_an_answer_is_an_answer(base_url: str) -> None:
    """The answer to an offer is {sdp, type: "answer"} and nothing else"""
    client = AiortcClient("")
    try:
        body = await client.create_offer()
        status, answer = await request("POST", base_url + "/obedient/webrtc/offer", json=body)
        assert (status, set(answer), answer["type"]) == (200, {"sdp", "type"}, "answer")
        await client.accept(answer)
    finally:
        await client.close()


async def test_unknown_connection(base_url: str) -> None:
    """An id that nobody has is 404 on every route"""
    url, query = base_url + "/obedient", {"params": {"webrtc_id": UNKNOWN}}
    answers = await asyncio.gather(
        trickle(url, UNKNOWN, CANDIDATE),
        trickle(url, UNKNOWN, None),
        request("POST", url + "/input_hook", json={"webrtc_id": UNKNOWN, "inputs": [1]}),
        request("GET", url + "/updates", **query),
        request("GET", url + "/outputs", **query),
        request("GET", url + "/outputs/latest", **query),
    )
    for answer in answers:
        failed("unknown_connection", answer)


async def test_an_id_belongs_to_its_stream(base_url: str) -> None:
    """Another stream of the application does not know the connection"""
    async with calling(base_url, transport="websocket") as call:
        other, query = base_url + "/audio-send", {"params": {"webrtc_id": call.id}}
        body = {"webrtc_id": call.id, "inputs": [1]}
        for answer in await asyncio.gather(
            request("POST", other + "/input_hook", json=body),
            request("GET", other + "/updates", **query),
            request("GET", other + "/outputs", **query),
            request("GET", other + "/outputs/latest", **query),
        ):
            failed("unknown_connection", answer)


async def test_what_is_no_offer(base_url: str) -> None:
    """400 invalid_sdp with a detail, and the id stays free"""
    good = await offer()
    for sdp in ("garbage", "v=0\r\n", good["sdp"][: len(good["sdp"]) // 3], "m=audio\r\n" * 100):
        body = {**good, "sdp": sdp}
        answer = await request("POST", base_url + "/obedient/webrtc/offer", json=body)
        assert failed("invalid_sdp", answer)["detail"], sdp
    async with calling(base_url, id=good["webrtc_id"]):
        pass


@pytest.mark.parametrize("prefix", ["/audio-send-receive", "/video-send-receive"])
async def test_media_that_the_stream_does_not_take(base_url: str, prefix: str) -> None:
    """400 unsupported_track with a detail"""
    body = await offer(("audio", "video"))
    answer = await request("POST", base_url + prefix + "/webrtc/offer", json=body)
    assert failed("unsupported_track", answer)["detail"]


async def test_what_is_no_candidate(base_url: str) -> None:
    """400 invalid_candidate_format with a detail, and the call goes on"""
    async with calling(base_url) as call:
        for text in ("garbage", "candidate:1", "candidate:1 1 udp 1 127.0.0.1 notaport typ host"):
            answer = await trickle(call.url, call.id, {"candidate": text, "sdpMid": "0"})
            assert failed("invalid_candidate_format", answer)["detail"], text
        await call.command("count", 1)
        await call.message("fetch_output", 2)


async def trickle(url: str, id: str, candidate: Any) -> tuple[int, Any]:
    body = {"type": "ice-candidate", "webrtc_id": id, "candidate": candidate}
    return await request("POST", url + "/webrtc/offer", json=body)


LONG = "x" * (128 << 10)
VALID = {"type": "offer", "webrtc_id": "a", "sdp": "v=0"}
TRICKLED = {"type": "ice-candidate", "webrtc_id": "a", "candidate": CANDIDATE}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        *[("/webrtc/offer", {**VALID, "webrtc_id": id}) for id in ("", "a" * 129, "a b", "ä", 1)],
        ("/webrtc/offer", {**VALID, "sdp": LONG + "x"}),
        ("/webrtc/offer", {**VALID, "sdp": ""}),
        ("/webrtc/offer", {**VALID, "sdp": None}),
        ("/webrtc/offer", {**VALID, "type": "answer"}),
        ("/webrtc/offer", {"webrtc_id": "a"}),
        ("/webrtc/offer", {**TRICKLED, "webrtc_id": "a/b"}),
        ("/webrtc/offer", {**TRICKLED, "candidate": {"candidate": "x" * 1025}}),
        ("/webrtc/offer", {**TRICKLED, "candidate": 5}),
        ("/webrtc/offer", {**TRICKLED, "candidate": {"candidate": None}}),
        ("/webrtc/offer", {**TRICKLED, "candidate": {**CANDIDATE, "sdpMLineIndex": "one"}}),
        ("/input_hook", {"webrtc_id": "a"}),
        ("/input_hook", {"inputs": [1]}),
        ("/input_hook", {"webrtc_id": "a", "inputs": "text"}),
        ("/input_hook", {"webrtc_id": "a" * 129, "inputs": [1]}),
    ],
)
async def test_values_out_of_range(base_url: str, route: str, body: Any) -> None:
    """422 for an id, SDP, candidate or input that is none"""
    status, answer = await request("POST", base_url + "/obedient" + route, json=body)
    assert (status, list(answer)) == (422, ["detail"]), answer


@pytest.mark.parametrize("route", ["/updates", "/outputs", "/outputs/latest"])
async def test_queries_out_of_range(base_url: str, route: str) -> None:
    """422 for an id or cursor that is none"""
    url = base_url + "/obedient" + route
    for query in ({}, {"webrtc_id": ""}, {"webrtc_id": "a b"}, {"webrtc_id": "a" * 129}):
        assert (await request("GET", url, params=query))[0] == 422, query
    wrong = {"timeout": "-1"} if route.endswith("latest") else {"last_event_id": "first"}
    assert (await request("GET", url, params={"webrtc_id": "a", **wrong}))[0] == 422


async def test_bodies_that_are_too_large(base_url: str) -> None:
    """413 for a body of more than 1 MiB, announced or not"""
    large = b'{"webrtc_id": "a", "inputs": ["' + b"x" * (1 << 20) + b'"]}'

    async def chunks() -> Any:
        for at in range(0, len(large), 1 << 16):
            yield large[at : at + (1 << 16)]
            await asyncio.sleep(0)

    headers = {"Content-Type": "application/json"}
    for route in ("/input_hook", "/webrtc/offer"):
        for data in (large, chunks()):
            url = base_url + "/obedient" + route
            status, answer = await request("POST", url, data=data, headers=headers)
            assert (status, answer["status"]) == (413, "failed")


@pytest.mark.parametrize("route", ["/webrtc/offer", "/input_hook", "/telephone/incoming"])
async def test_nothing_that_is_sent_is_a_500(base_url: str, route: str) -> None:
    """Whatever the body is, it is the client's mistake"""
    bodies = (
        *(b"", b"null", b"[]", b"1", b'"', b"{", b"{}", b"\xff\xfe", b'{"a": NaN}', b"[" * 5000),
        b'{"type": "offer", "webrtc_id": "a", "sdp": "\\ud800"}',
        b'{"type": "offer", "webrtc_id": "a", "sdp": "v=0\\u0000"}',
        b'{"webrtc_id": "a", "inputs": [1e999]}',
        b'{"webrtc_id": "a", "inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
    )
    async with aiohttp.ClientSession() as session:
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
            for body in bodies:
                async with session.post(
                    base_url + "/obedient" + route, data=body, headers={"Content-Type": kind}
                ) as response:
                    assert response.status < 500, (kind, body[:80], await response.text())


async def test_inputs_of_a_model(base_url: str) -> None:
    """`/input_hook` validates with the stream's model: 422, and the handler sees nothing of it"""
    async with calling(base_url, "/model", "websocket") as call:
        hook = call.url + "/input_hook"
        good = {"webrtc_id": call.id, "command": "count", "value": 1}
        for wrong in ({"value": 101}, {"value": "x"}, {"value": None}, {"command": "far too long"}):
            status, answer = await request("POST", hook, json={**good, **wrong})
            assert (status, list(answer)) == (422, ["detail"])
        del good["value"]
        assert (await request("POST", hook, json=good))[0] == 422
        assert await request("POST", hook, json={**good, "value": 2}) == (
            200,
            {"status": "success"},
        )
        await call.message("fetch_output", 3)
        assert (await call.latest())[1]["args"] == [1]


async def test_the_latest_output(base_url: str) -> None:
    """`/outputs/latest`: the newest one, the next one after an id, or 504"""
    async with calling(base_url, transport="websocket") as call:
        status, first = await call.latest()
        assert (status, first["args"]) == (200, [call.id, False])
        status, answer = await call.latest(after=first["id"], timeout="0.3")
        assert (status, answer["status"]) == (504, "failed")
        waiting = asyncio.create_task(call.latest(after=first["id"], timeout="5"))
        await call.command("count", 1)
        assert (await waiting)[1]["args"] == [0]


@pytest.mark.parametrize("kind", ["dict", "function", "async", "partial", "method"])
async def test_rtc_configuration(base_url: str, kind: str) -> None:
    """`/rtc-configuration` answers with the stream's dict, or what its callable gives"""
    status, answer = await request("GET", f"{base_url}/rtc-{kind}/rtc-configuration")
    assert status == 200
    assert answer == {"iceServers": [{"urls": f"stun:{kind}.example:3478"}]}


async def test_operations(base_url: str) -> None:
    """`/healthz`, `/readyz`, `/metrics`, `/docs`; `/openapi.json` has the routes of each stream"""
    for route in ("/healthz", "/readyz", "/metrics", "/docs"):
        assert (await request("GET", base_url + route))[0] == 200
    status, document = await request("GET", base_url + "/openapi.json")
    assert status == 200
    for prefix in ("/obedient", "/video-send", "/model"):
        for route in ("/webrtc/offer", "/input_hook", "/updates", "/outputs", "/outputs/latest"):
            assert prefix + route in document["paths"]
