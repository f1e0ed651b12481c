"""The id of a request, by which an operator finds its log lines, whatever route it came to."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Response

from rayrtc.logs import JSONFormatter
from tests.control_plane.conftest import Replica, Workers, make_stream
from tests.socket_client import SocketClient


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs, as JSON lines."""
    for name in ("uvicorn", "uvicorn.error"):  # a test may have let uvicorn set up its own
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter({}))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def of_request(log: io.StringIO, request_id: str) -> list[str]:
    logged = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["message"] for line in logged if line.get("request_id") == request_id]


async def test_every_answer_has_one(replica: Replica) -> None:
    """A client that got 422, or no route at all, has something to report too."""
    api = await replica()
    for path, status in (("/webrtc/offer", 422), ("/nothing", 404), ("/input_hook", 422)):
        async with api.session.post(api.url + path, json={"sdp": 1}) as response:
            assert response.status == status
            assert len(response.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "a\tb", "\u00e9"])
async def test_what_is_no_id_is_replaced(replica: Replica, bad: str) -> None:
    api = await replica()
    headers = {"X-Request-ID": bad}
    async with api.session.get(api.url + "/healthz", headers=headers) as response:
        assert len(response.headers["X-Request-ID"]) == 32


async def test_candidates_and_websockets_take_theirs_to_the_worker(
    replica: Replica, workers: Workers, log: io.StringIO
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    body = {"type": "ice-candidate", "webrtc_id": "alice", "candidate": None}
    options = {"headers": {"X-Request-ID": "of-the-candidate"}}
    assert (await api.post("/webrtc/offer", body, **options))[0] == 200
    assert worker.candidates[0]["request_id"] == "of-the-candidate"
    client = SocketClient(api.url, "bob")
    client.headers = {"X-Request-ID": "of-the-socket"}
    async with client:
        await client.start(read=False)
        async with asyncio.timeout(5):
            while "connection taken" not in of_request(log, "of-the-socket"):
                await asyncio.sleep(0.01)
    assert worker.offers[1]["request_id"] == "of-the-socket"


async def test_the_applications_own_routes_have_one(replica: Replica, log: io.StringIO) -> None:
    app = FastAPI()
    make_stream().mount(app)

    @app.get("/own")
    async def own() -> None:
        logging.getLogger("app").info("asked")

    @app.get("/own-sync")
    def own_sync() -> None:
        logging.getLogger("app").info("asked on a thread")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a bug")

    @app.get("/named")
    async def named(response: Response) -> None:
        response.headers["X-Request-ID"] = "the application's"

    api = await replica(app)
    for path, message in (
        ("/own", "asked"),
        ("/own-sync", "asked on a thread"),
        ("/broken", "Exception in ASGI application\n"),
    ):
        request_id = f"to{path.replace('/', '-')}"
        headers = {"X-Request-ID": request_id}
        async with api.session.get(api.url + path, headers=headers):
            pass
        async with asyncio.timeout(5):  # the server tells of a failure after it has answered
            while not of_request(log, request_id):
                await asyncio.sleep(0.01)
        assert of_request(log, request_id) == [message]
    async with api.session.get(api.url + "/named") as response:
        assert response.headers.getall("X-Request-ID") == ["the application's"]
