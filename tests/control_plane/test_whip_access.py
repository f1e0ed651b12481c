"""Who may use WHIP and WHEP: pages of other origins, and clients with a token."""

import pytest
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from rayrtc.errors import Unauthorized
from tests.control_plane.conftest import Replica, Workers, make_stream
from tests.control_plane.whip_client import ask, code, patch, publish


async def test_pages_of_other_origins(replica: Replica, workers: Workers) -> None:
    """A browser asks first, and may read what a client needs, of refusals too."""
    await workers(1)
    api = await replica()
    question = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = await ask(api, "OPTIONS", "/whip", **question)
    assert (status, headers["Accept-Post"]) == (200, "application/sdp")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in headers["Access-Control-Allow-Methods"]
    allowed = headers["Access-Control-Allow-Headers"]
    assert {"Authorization", "Content-Type", "If-Match"} <= set(allowed.split(", "))
    _, headers, _ = await publish(api, Origin="https://page.example")
    exposed = set(headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "ETag", "Link"} <= exposed
    location = headers["Location"]
    question["Access-Control-Request-Method"] = "DELETE"
    status, headers, _ = await ask(api, "OPTIONS", location, **question)
    assert (status, headers["Accept-Patch"]) == (200, "application/trickle-ice-sdpfrag")
    assert {"PATCH", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
    _, headers, _ = await ask(api, "PUT", location)
    assert headers["Access-Control-Allow-Origin"] == "*"


async def test_an_application_with_a_policy_of_its_own(replica: Replica, workers: Workers) -> None:
    """Ours adds nothing to it and takes nothing from it."""
    await workers(1)
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["https://ours.example"])
    make_stream().mount(app)
    api = await replica(app)
    _, headers, _ = await publish(api, Origin="https://ours.example")
    assert headers.getall("Access-Control-Allow-Origin") == ["https://ours.example"]
    assert len(headers.getall("Access-Control-Expose-Headers")) == 1
    _, headers, _ = await publish(api, Origin="https://theirs.example")
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("where", ["application", "stream"])
async def test_a_token(replica: Replica, workers: Workers, where: str) -> None:
    """RFC 9725, 4.7: 401 says what is asked for; a browser's preflight carries none."""
    await workers(1)
    required = [Depends(HTTPBearer())]
    app = FastAPI(dependencies=required if where == "application" else [])
    make_stream().mount(app, dependencies=required if where == "stream" else None)
    api = await replica(app)
    status, headers, _ = await publish(api, Origin="https://page.example")
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert headers["Access-Control-Allow-Origin"] == "*"
    status, headers, _ = await publish(api, Authorization="Bearer a-token")
    assert status == 201
    location, tag = headers["Location"], headers["ETag"]
    assert (await patch(api, location, If_Match=tag))[0] == 401
    assert (await ask(api, "DELETE", location))[0] == 401
    question = {"Origin": "https://page.example", "Access-Control-Request-Method": "DELETE"}
    for path in ("/whip", location):
        assert (await ask(api, "OPTIONS", path, **question))[0] == 200
    assert (await ask(api, "DELETE", location, Authorization="Bearer a-token"))[0] == 200


async def test_the_contracts_own_refusal_asks_for_a_token(replica: Replica) -> None:
    def refuse() -> None:
        raise Unauthorized

    app = FastAPI()
    make_stream().mount(app, dependencies=[Depends(refuse)])
    answer = await publish(await replica(app))
    assert code(answer) == (401, "unauthorized")
    assert answer[1]["WWW-Authenticate"] == "Bearer"
