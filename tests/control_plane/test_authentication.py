"""An application that asks for a credential must be asked at every way in."""

import re
from typing import Any

import aiohttp
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, WebSocketRoute

from rayrtc.cluster.client import Cluster
from rayrtc.errors import Forbidden, Unauthorized
from tests.control_plane.conftest import SDP, Replica, Workers, held, make_stream

KEY = {"Authorization": "Bearer the key"}


async def contract_error(connection: HTTPConnection) -> None:
    """As an application does that wants the contract's body."""
    given = connection.headers.get("authorization")
    if given is None:
        raise Unauthorized
    if given != KEY["Authorization"]:
        raise Forbidden("this key opens nothing here")


async def fastapi_error(connection: HTTPConnection) -> None:
    """As FastAPI's own security classes do."""
    if connection.headers.get("authorization") != KEY["Authorization"]:
        raise HTTPException(401)


def protected(where: str, check: Any = contract_error) -> FastAPI:
    if where == "application":
        app = FastAPI(dependencies=[Depends(check)])
        make_stream().mount(app)
    else:
        app = FastAPI()
        make_stream().mount(app, dependencies=[Depends(check)])
    return app


def ways_in(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of all routes that the stream has brought."""
    own = re.compile(
        r"^/(webrtc|websocket|telephone|input_hook|updates|outputs|rtc-config|whip|whep)"
    )
    found: list[tuple[str, str]] = []
    routes: list[BaseRoute] = app.routes
    for route in routes:
        if isinstance(route, WebSocketRoute):
            found.append(("WS", route.path))
        elif (
            isinstance(route, APIRoute)
            and own.match(route.path)
            and route.endpoint.__name__ not in OPEN
        ):
            found += [(method, route.path) for method in route.methods or ()]
    return found


OPEN = {"options", "session_options", "not_allowed", "session_not_allowed"}
"""Endpoints that do nothing: browsers send no credential with their question what they may do."""


BODIES: dict[str, Any] = {
    "/webrtc/offer": {"sdp": SDP, "type": "offer", "webrtc_id": "mine"},
    "/input_hook": {"webrtc_id": "mine", "inputs": [1]},
}


async def ask(session: aiohttp.ClientSession, url: str, method: str, path: str) -> tuple[int, str]:
    """Status and body of a request, or of a WebSocket's handshake; 101 when it is taken."""
    if method == "WS":
        async with session.get(
            url + path,
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        ) as response:
            return response.status, "" if response.status == 101 else await response.text()
    params = {"webrtc_id": "mine", "timeout": "0.1"} if method == "GET" else {}
    async with session.request(
        method, url + path, json=BODIES.get(path), params=params
    ) as response:
        # event streams have no end
        return response.status, await response.text() if response.status >= 400 else ""


@pytest.mark.parametrize("where", ["application", "stream"])
async def test_every_way_in_asks_for_the_credential(
    replica: Replica, workers: Workers, cluster: Cluster, where: str
) -> None:
    """Defect 13: no authentication. A dependency protects the WebSockets too, and before any work:
    nothing is reserved for who is refused."""
    await workers()
    app = protected(where)
    api = await replica(app)
    found = ways_in(app)
    sockets = {path for method, path in found if method == "WS"}
    assert sockets == {"/websocket/offer", "/telephone/handler"}
    assert len(found) == 23, "a new route must be in this test"
    async with aiohttp.ClientSession() as anybody:
        for method, path in found:
            status, text = await ask(anybody, api.url, method, path)
            told = method == "HEAD" or '"unauthorized"' in text
            assert (status, told) == (401, True), (method, path)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer another"}) as stranger:
        for method, path in found:
            status, text = await ask(stranger, api.url, method, path)
            told = method == "HEAD" or '"forbidden"' in text
            assert (status, told) == (403, True), (method, path)
    assert await held(cluster) == 0
    assert await cluster.registry.find("mine") is None
    async with aiohttp.ClientSession(headers=KEY) as friend:
        for method, path in found:
            if method == "WS":
                async with friend.ws_connect(api.url + path) as socket:
                    await socket.send_json({"event": "stop"})
            else:
                status, _ = await ask(friend, api.url, method, path)
                assert status not in (401, 403), (method, path)


async def test_fastapis_own_refusals_hold_for_sockets_too(replica: Replica) -> None:
    """Defect 13: as an application of FastRTC would do it."""
    api = await replica(protected("application", fastapi_error))
    async with aiohttp.ClientSession() as anybody:
        for method, path in [("POST", "/webrtc/offer"), ("WS", "/websocket/offer")]:
            assert (await ask(anybody, api.url, method, path))[0] == 401


async def test_streams_are_protected_one_by_one(replica: Replica) -> None:
    app = FastAPI()
    make_stream(name="open").mount(app, "/open")
    make_stream(name="closed").mount(app, "/closed", dependencies=[Depends(contract_error)])
    api = await replica(app)
    async with aiohttp.ClientSession() as anybody:
        assert (await ask(anybody, api.url, "GET", "/open/rtc-configuration"))[0] == 200
        assert (await ask(anybody, api.url, "GET", "/closed/rtc-configuration"))[0] == 401
        assert (await ask(anybody, api.url, "GET", "/healthz"))[0] == 200
