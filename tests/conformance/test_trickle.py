"""Trickle ICE: candidates that come apart from their offer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clients import AiortcClient
from tests.conformance.call import request
from tests.conformance.calls import local


@asynccontextmanager
async def offering(base_url: str) -> AsyncIterator[tuple[AiortcClient, dict[str, Any], list[str]]]:
    """A client, its offer without candidates, and these."""
    client = AiortcClient(base_url + "/obedient", loopback=local(base_url))
    try:
        body = await client.create_offer()
        lines = body["sdp"].splitlines()
        candidates = [line[2:] for line in lines if line.startswith("a=candidate:")]
        kept = [line for line in lines if not line.startswith(("a=candidate", "a=end-of"))]
        body["sdp"] = "\r\n".join(kept) + "\r\n"
        assert candidates
        yield client, body, candidates
    finally:
        await client.close()


async def send(client: AiortcClient, candidate: Any) -> tuple[int, Any]:
    body = {"type": "ice-candidate", "webrtc_id": client.webrtc_id, "candidate": candidate}
    return await request("POST", client.url + "/webrtc/offer", json=body)


def init(candidate: str) -> dict[str, Any]:
    """As `RTCIceCandidate.toJSON()` gives it."""
    return {
        "candidate": candidate,
        "sdpMid": "0",
        "sdpMLineIndex": 0,
        "usernameFragment": None,
    }


TAKEN = (200, {"status": "success"})


@pytest.mark.parametrize("end", [None, "", init("")], ids=["null", "empty", "empty candidate"])
async def test_candidates_after_the_offer(base_url: str, end: Any) -> None:
    """They connect, in the eight tokens of Firefox; null and "" end them"""
    async with offering(base_url) as (client, body, candidates):
        status, answer = await request("POST", client.url + "/webrtc/offer", json=body)
        assert status == 200
        for candidate in candidates:
            assert await send(client, init(" ".join(candidate.split()[:8]))) == TAKEN
        assert await send(client, end) == TAKEN
        await client.accept(answer)


async def test_a_candidate_that_overtakes_its_offer(base_url: str) -> None:
    """It is kept and used"""
    async with offering(base_url) as (client, body, candidates):
        early = [asyncio.create_task(send(client, init(text))) for text in candidates]
        await asyncio.sleep(0.5)
        status, answer = await request("POST", client.url + "/webrtc/offer", json=body)
        assert status == 200
        assert await asyncio.gather(*early) == [TAKEN] * len(early)
        await client.accept(answer)


async def test_candidates_of_other_kinds(base_url: str) -> None:
    """Names of mDNS, TCP, IPv6 and further tokens are taken, usable or not"""
    async with offering(base_url) as (client, body, _):
        assert (await request("POST", client.url + "/webrtc/offer", json=body))[0] == 200
        for text in (
            "candidate:1 1 udp 2113937151 0a2e5c1b-6b1c-4d7a-9a51-1d2f3b4c5d6e.local 9 typ host",
            "candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active generation 0",
            "candidate:3 1 udp 2122262783 ::1 9 typ host generation 0 ufrag abcd network-id 1",
            "candidate:4 1 UDP 1686052607 203.0.113.1 9 typ srflx raddr 10.0.0.1 rport 9",
        ):
            assert await send(client, init(text)) == TAKEN, text


async def test_too_many_candidates(base_url: str) -> None:
    """64 for a connection are taken, the next one is refused"""
    async with offering(base_url) as (client, body, candidates):
        status, answer = await request("POST", client.url + "/webrtc/offer", json=body)
        assert status == 200
        assert await send(client, init(candidates[0])) == TAKEN
        for port in range(1, 64):
            text = f"candidate:1 1 udp 1 192.0.2.1 {port} typ host"
            assert await send(client, init(text)) == TAKEN
        status, refusal = await send(client, init("candidate:1 1 udp 1 192.0.2.1 99 typ host"))
        assert (status, refusal["status"]) == (413, "failed")
        await client.accept(answer)
