"""The internal server: who does not know the cluster secret must get nothing from a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from rayrtc.cluster.models import OfferAnswer
from tests.clients import AiortcClient
from tests.workers.host import Echo, Host, hosting, until
from workers import connections
from workers.server import WorkerServer

SECRET = "a secret of the cluster"


@asynccontextmanager
async def serving(secret: str = SECRET, **options: Any) -> AsyncIterator[tuple[Any, Host]]:
    async with hosting(Echo(), **options) as host:
        server = WorkerServer(host.connections, SECRET, lambda: b"rayrtc_worker_up 1\n")
        port = await server.start("127.0.0.1")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
                yield http, host
        finally:
            await server.stop()


async def test_a_call_over_http() -> None:
    client = AiortcClient("")
    async with serving() as (http, host):
        request = host.request(client.webrtc_id, (await client.create_offer())["sdp"])
        async with http.post("/v1/offer", data=request.model_dump_json()) as response:
            assert response.status == 200
            answer = OfferAnswer.model_validate(await response.json())
        end = {"connection_id": client.webrtc_id, "candidate": None}
        async with http.post("/v1/candidate", json=end) as response:
            assert (response.status, await response.json()) == (200, {})
        await client.accept({"sdp": answer.sdp, "type": "answer"})
        await until(lambda: client.samples)
        body = {"connection_id": client.webrtc_id, "session": request.session}
        async with http.post("/v1/release", json=body) as response:
            assert response.status == 200
        await until(lambda: not len(host.connections))
        await client.close()


async def test_refusals_carry_their_code_and_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CANDIDATE_WAIT", 0.1)
    async with serving(slots=1) as (http, host):

        async def post(path: str, body: Any) -> tuple[int, str]:
            async with http.post(path, json=body) as response:
                return response.status, (await response.json())["code"]

        def offer(connection_id: str, sdp: str) -> dict[str, Any]:
            return host.request(connection_id, sdp).model_dump()

        def candidate(value: Any) -> dict[str, Any]:
            return {"connection_id": "x", "candidate": value}

        assert await post("/v1/offer", offer("x", "garbage")) == (400, "invalid_sdp")
        assert await post("/v1/candidate", candidate({"candidate": "x"})) == (
            400,
            "invalid_candidate_format",
        )
        host.connections.accepting = False
        assert await post("/v1/offer", offer("y", "garbage")) == (409, "refused")
        assert await post("/v1/candidate", candidate(None)) == (410, "connection_closed")
        nobody = {"connection_id": "nobody", "candidate": None}
        assert await post("/v1/candidate", nobody) == (404, "unknown_connection")
        assert await post("/v1/offer", {"sdp": 5}) == (422, "invalid_request")
        assert await post("/v1/nothing", {}) == (404, "invalid_request")


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", "\u00fc"])
async def test_without_the_secret_everything_is_401(secret: str) -> None:
    async with serving(secret) as (http, _):
        for path in ("/v1/health", "/v1/metrics", "/nothing"):
            async with http.get(path) as response:
                assert response.status == 401
        async with http.post("/v1/offer", data=b"{") as response:
            assert response.status == 401
            assert (await response.json())["code"] == "unauthorized"


async def test_health_and_metrics() -> None:
    async with serving() as (http, _):
        async with http.get("/v1/health") as response:
            assert response.status == 200
        async with http.get("/v1/metrics") as response:
            assert await response.text() == "rayrtc_worker_up 1\n"


async def test_broken_json_and_huge_bodies_are_refused() -> None:
    async with serving() as (http, _):
        for body, status in ((b"{", 422), (b"\xff", 422), (b"x" * (5 << 20), 413)):
            async with http.post("/v1/offer", data=body) as response:
                assert response.status == status
