"""WHIP and WHEP: offers by plain HTTP, as OBS, GStreamer and other publishers and players send."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
import pytest
from multidict import CIMultiDictProxy

from tests.clients import RATE, AiortcClient
from tests.conformance import effects
from tests.conformance.call import events
from tests.conformance.calls import local
from tests.e2e.sse import Reader

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of a failure."""
        body = json.loads(self.text)
        assert body["status"] == "failed"
        return self.status, body["meta"]["error"]


async def ask(method: str, url: str, data: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=named) as response,
    ):
        return Answer(response.status, response.headers, await response.text())


@dataclass
class Session:
    """An offer that was answered with 201."""

    client: AiortcClient
    answer: Answer
    url: str
    candidates: list[str]
    fragment: str
    """The candidates, as `PATCH` takes them."""

    @property
    def id(self) -> str:
        return self.url.rpartition("/")[2]

    async def connect(self) -> None:
        await self.client.accept({"sdp": self.answer.text, "type": "answer"})


@asynccontextmanager
async def session(
    base: str, path: str, direction: str = "sendonly", trickle: bool = False
) -> AsyncIterator[Session]:
    """Of a client without a data channel; with `trickle` its offer has no candidates."""
    client = AiortcClient(
        base + path, data_channel=False, direction=direction, loopback=local(base)
    )
    try:
        lines = (await client.create_offer())["sdp"].splitlines()
        candidates = [line for line in lines if line.startswith("a=candidate:")]
        fragment = [
            line
            for line in lines
            if line.startswith(("m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:"))
        ]
        if trickle:
            lines = [line for line in lines if not line.startswith(("a=candidate", "a=end-of"))]
        answer = await ask("POST", base + path, "\r\n".join([*lines, ""]), Content_Type=SDP)
        assert answer.status == 201, answer.text
        url = urljoin(base + path, answer.headers["Location"])
        text = "\r\n".join([*fragment, "a=end-of-candidates", ""])
        yield Session(client, answer, url, candidates, text)
    finally:
        await client.close()


async def test_a_publisher(base_url: str) -> None:
    """201 with Location, ETag and an answer that only receives; outputs go by the session's id"""
    url = f"{base_url}/audio-send"
    async with session(base_url, "/audio-send/whip") as publisher:
        headers, answer = publisher.answer.headers, publisher.answer.text
        assert headers["Content-Type"] == SDP
        assert headers["ETag"].startswith('"')
        assert headers["Accept-Patch"] == FRAGMENT
        assert "a=recvonly" in answer
        assert "a=rtcp-mux-only" in answer
        assert "a=candidate:" in answer
        assert "a=setup:passive" in answer
        assert publisher.url.startswith(f"{url}/whip/")
        await publisher.connect()
        reader = Reader(url + "/outputs", publisher.id)
        await reader.wait_for(4, "output")
        await reader.close()
        heard = json.loads(reader.outputs("output")[-1].data)[0]
        assert abs(heard["frequency"] - publisher.client.tone.frequency) < 6
        assert (await ask("GET", publisher.url)).status == 204
        deleted = await ask("DELETE", publisher.url)
        assert deleted.status == 200
    last = (await events(url + "/outputs", publisher.id))[-1]
    assert (last.name, json.loads(last.data)) == ("end", {"reason": "client_closed"})
    assert (await ask("DELETE", publisher.url)).error == (410, "connection_closed")


async def test_a_player(base_url: str) -> None:
    """It hears the stream, and its answer only sends"""
    async with session(base_url, "/at-once/whep", "recvonly") as player:
        assert "a=sendonly" in player.answer.text
        await player.connect()
        await player.client.hear(1.5)
        heard = np.concatenate(player.client.samples)[-RATE:]
        assert abs(effects.frequency(heard, RATE) - effects.FREQUENCY) < 3
        assert (await ask("DELETE", player.url)).status == 200


async def test_clients_that_could_do_both(base_url: str) -> None:
    """An offer of both directions to a stream that has both is answered with one"""
    for path, direction in (("/obedient/whip", "recvonly"), ("/obedient/whep", "sendonly")):
        async with session(base_url, path, "sendrecv") as both:
            directions = [line for line in both.answer.text.split() if line in DIRECTIONS]
            assert directions == [f"a={direction}"]
            await both.connect()


DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")


async def test_candidates_after_the_offer(base_url: str) -> None:
    """PATCH is answered with 204 and no entity tag, and the session connects"""
    async with session(base_url, "/audio-send/whip", trickle=True) as publisher:
        assert publisher.candidates
        tag = publisher.answer.headers["ETag"]
        patch = {"Content_Type": FRAGMENT, "If_Match": tag}
        answer = await ask("PATCH", publisher.url, publisher.fragment, **patch)
        assert (answer.status, answer.text, "ETag" in answer.headers) == (204, "", False)
        await publisher.connect()


async def test_patches_that_are_refused(base_url: str) -> None:
    """428 without If-Match, 412 with another, 422 for a restart, 415, 400; the session goes on"""
    async with session(base_url, "/audio-send/whip") as publisher:
        await publisher.connect()

        async def patch(text: str = publisher.fragment, **headers: str) -> tuple[int, str]:
            headers = {"Content_Type": FRAGMENT, **headers}
            return (await ask("PATCH", publisher.url, text, **headers)).error

        restart = publisher.fragment.replace("a=ice-ufrag:", "a=ice-ufrag:x")
        tag = publisher.answer.headers["ETag"]
        assert await patch() == (428, "precondition_required")
        assert await patch(If_Match='"another"') == (412, "precondition_failed")
        assert await patch(restart, If_Match="*") == (422, "ice_restart_unsupported")
        assert await patch(If_Match=tag, Content_Type=SDP) == (415, "unsupported_media_type")
        assert await patch("hello", If_Match=tag) == (400, "invalid_sdp")
        assert (await ask("GET", publisher.url)).status == 204


async def test_a_slot_is_free_after_delete(base_url: str) -> None:
    """At once: a stream of one connection takes the next publisher"""
    for _ in range(3):
        async with session(base_url, "/single/whip") as publisher:
            await publisher.connect()
            offer = publisher.client.pc.localDescription.sdp
            full = await ask("POST", f"{base_url}/single/whip", offer, Content_Type=SDP)
            assert full.error == (429, "concurrency_limit_reached")
            assert full.headers["Retry-After"].isdecimal()
            assert (await ask("DELETE", publisher.url, If_Match='"ignored"')).status == 200


async def test_offers_that_are_refused(base_url: str) -> None:
    """415, 406, 400 and 413, in the common body"""
    url = f"{base_url}/audio-send/whip"
    client = AiortcClient("", data_channel=False, direction="sendonly")
    try:
        offer = (await client.create_offer())["sdp"]
    finally:
        await client.close()
    wrong = await ask("POST", url, offer, Content_Type="application/json")
    assert wrong.error == (415, "unsupported_media_type")
    assert wrong.headers["Accept-Post"] == SDP
    refused = await ask("POST", url, offer, Content_Type=SDP, Accept="text/html")
    assert refused.error == (406, "not_acceptable")
    large = offer + "a=x:" + "y" * (128 << 10) + "\r\n"
    assert (await ask("POST", url, large, Content_Type=SDP)).error == (413, "too_large")
    for body in ("", "hello", offer.replace("sendonly", "recvonly"), "v=0\r\n"):
        answer = await ask("POST", url, body, Content_Type=SDP)
        assert answer.error == (400, "invalid_sdp"), body
    video = offer.replace("m=audio", "m=video")
    assert (await ask("POST", url, video, Content_Type=SDP)).error == (400, "unsupported_track")


@pytest.mark.parametrize("name", ["whip", "whep"])
async def test_methods(base_url: str, name: str) -> None:
    """GET is answered with nothing, OPTIONS says what is taken, others are 405 with Allow"""
    url = f"{base_url}/obedient/{name}"
    for method in ("GET", "HEAD"):
        answer = await ask(method, url)
        assert (answer.status, answer.headers["Content-Type"], answer.text) == (200, SDP, "")
    answer = await ask("OPTIONS", url)
    assert (answer.status, answer.headers["Accept-Post"]) == (200, SDP)
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await ask(method, url)
        assert answer.error == (405, "method_not_allowed")
        assert "POST" in answer.headers["Allow"]
    async with session(base_url, f"/obedient/{name}", "sendrecv") as made:
        for method in ("PUT", "POST"):
            answer = await ask(method, made.url)
            assert answer.error == (405, "method_not_allowed")
            assert {"DELETE", "PATCH"} <= set(answer.headers["Allow"].split(", "))


async def test_sessions_that_are_not_there(base_url: str) -> None:
    """404 for what was never a session of this stream"""
    async with session(base_url, "/obedient/whip") as publisher:
        for url in (
            f"{base_url}/obedient/whip/nobody",
            publisher.url.replace("/obedient/", "/audio-send/"),
            publisher.url.replace("/whip/", "/whep/"),
        ):
            patch = {"Content_Type": FRAGMENT, "If_Match": publisher.answer.headers["ETag"]}
            assert (await ask("DELETE", url)).error == (404, "unknown_connection")
            answer = await ask("PATCH", url, publisher.fragment, **patch)
            assert answer.error == (404, "unknown_connection")


@pytest.mark.parametrize("path", ["/audio-receive/whip", "/audio-send/whep"])
async def test_streams_of_the_other_direction(base_url: str, path: str) -> None:
    """404 unsupported_mode"""
    for method in ("POST", "GET"):
        answer = await ask(method, base_url + path, "v=0", Content_Type=SDP)
        assert answer.error == (404, "unsupported_mode")


async def test_ice_servers(base_url: str) -> None:
    """Those of the stream's `rtc_configuration` are links of the answer"""
    async with session(base_url, "/rtc-dict/whip") as publisher:
        links = publisher.answer.headers.getall("Link")
        assert links == ['<stun:dict.example:3478>; rel="ice-server"']


async def test_pages_of_other_origins(base_url: str) -> None:
    """A preflight is answered, and the page may read Location, ETag and Link"""
    origin = {"Origin": "https://page.example"}
    question = {**origin, "Access-Control-Request-Method": "POST"}
    answer = await ask("OPTIONS", f"{base_url}/obedient/whip", **question)
    headers = answer.headers
    assert (answer.status, headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "POST" in headers["Access-Control-Allow-Methods"]
    allowed = set(headers["Access-Control-Allow-Headers"].split(", "))
    assert {"Authorization", "Content-Type", "If-Match"} <= allowed
    async with session(base_url, "/obedient/whip") as publisher:
        question["Access-Control-Request-Method"] = "DELETE"
        headers = (await ask("OPTIONS", publisher.url, **question)).headers
        assert {"PATCH", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
        exposed = publisher.answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "ETag", "Link"} <= set(exposed)
