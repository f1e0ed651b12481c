"""How a handler gets its inputs: `/input_hook`, or an application's own routes."""

import datetime
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from rayrtc import Stream
from rayrtc.cluster import codec
from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.cluster.conftest import eventually
from tests.control_plane.conftest import SDP, Inputs, Replica, Workers, make_stream


async def last(cluster: Cluster, webrtc_id: str = "alice") -> list[Any]:
    found = await cluster.inputs.last(webrtc_id)
    assert found is not None
    return codec.decode(found[1])


async def test_fields_become_arguments_in_their_order(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    await workers(1)
    api = await replica(make_stream(inputs=Inputs))
    await api.offer("alice")
    body = {"words": ["a"], "webrtc_id": "alice", "threshold": 0.5}
    assert await api.post("/input_hook", body) == (200, {"status": "success"})
    assert await last(cluster) == [0.5, ["a"]]
    assert (await api.post("/input_hook", {"webrtc_id": "alice", "threshold": 1}))[0] == 200
    assert await last(cluster) == [1.0, []]
    status, _ = await api.post("/input_hook", {"webrtc_id": "alice", "threshold": 1.5})
    assert status == 422
    assert await last(cluster) == [1.0, []]
    assert await api.metric('rayrtc_inputs_total{outcome="taken",stream="default"}') == 2


class WithId(BaseModel):
    """As the specification's example writes it."""

    webrtc_id: str
    conf_threshold: float = Field(ge=0, le=1)
    when: datetime.date | None = None


async def test_model_with_an_id_and_types_that_json_has_not(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    await workers(1)
    api = await replica(make_stream(inputs=WithId))
    await api.offer("alice")
    body = {"webrtc_id": "alice", "conf_threshold": 0.25, "when": "2026-11-22"}
    assert (await api.post("/input_hook", body))[0] == 200
    assert await last(cluster) == [0.25, "2026-11-22"]
    assert (await api.post("/input_hook", body | {"webrtc_id": "no good"}))[0] == 422


async def test_list_without_a_model(replica: Replica, workers: Workers, cluster: Cluster) -> None:
    await workers(1)
    api = await replica()
    await api.offer("alice")
    inputs = [1, "ü\0", None, {"$rayrtc": "bytes", "data": "AA=="}, [1e300]]
    assert (await api.post("/input_hook", {"webrtc_id": "alice", "inputs": inputs}))[0] == 200
    assert await last(cluster) == inputs
    for bad in ({}, {"inputs": []}, {"inputs": {}}, {"inputs": "abc"}):
        assert (await api.post("/input_hook", {"webrtc_id": "alice", **bad}))[0] == 422
    nested: Any = 1
    for _ in range(120):
        nested = [nested]
    assert (await api.post("/input_hook", {"webrtc_id": "alice", "inputs": [nested]}))[0] == 422


async def test_unknown_and_ended(replica: Replica, workers: Workers) -> None:
    (worker,) = await workers(1)
    api = await replica()
    status, body = await api.post("/input_hook", {"webrtc_id": "alice", "inputs": [1]})
    assert (status, body["meta"]["error"]) == (404, "unknown_connection")
    await api.offer("alice")
    await worker.close("alice", EndReason.TIME_LIMIT)
    status, body = await api.post("/input_hook", {"webrtc_id": "alice", "inputs": [1]})
    assert (status, body["meta"]["error"]) == (410, "connection_closed")


async def test_too_much_for_the_relay_is_413(replica: Replica, workers: Workers) -> None:
    await workers(1)
    api = await replica(payload_max=4096)
    await api.offer("alice")
    status, body = await api.post("/input_hook", {"webrtc_id": "alice", "inputs": ["x" * 5000]})
    assert (status, body["meta"]["error"]) == (413, "too_large")


async def test_the_applications_own_routes_win_and_may_call_the_stream(
    replica: Replica, workers: Workers, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rayrtc.stream")
    (worker,) = await workers(1)
    stream: Stream = make_stream()
    app = FastAPI()
    stream.mount(app)
    seen = []

    @app.post("/input_hook")
    async def input_hook(data: WithId) -> None:
        stream.set_input(data.webrtc_id, data.conf_threshold)

    @app.post("/awaited")
    async def awaited(data: WithId) -> None:
        await stream.set_input(data.webrtc_id, data.conf_threshold)

    @app.post("/sync")
    def sync(data: WithId) -> None:
        stream.set_input(data.webrtc_id, data.conf_threshold)

    @app.get("/updates")
    async def updates(webrtc_id: str) -> str:
        seen.append(webrtc_id)
        output = await stream.fetch_latest_output(webrtc_id)
        return str(output.args[0])

    api = await replica(app)
    await api.offer("alice")
    for path in ("/input_hook", "/awaited", "/sync"):
        body = {"webrtc_id": "alice", "conf_threshold": 0.5}
        assert await api.post(path, body) == (200, None), path
    assert await last(cluster) == [0.5]
    await worker.put("alice", '["hello"]')
    assert await api.get("/updates", webrtc_id="alice") == (200, "hello")
    body = {"webrtc_id": "nobody", "conf_threshold": 0.5}
    status, answer = await api.post("/awaited", body)
    assert (status, answer["meta"]["error"]) == (404, "unknown_connection")
    caplog.clear()
    assert await api.post("/input_hook", body) == (200, None)  # it has not waited
    await eventually(lambda: bool(caplog.records))
    assert caplog.records[0].__dict__["connection_id"] == "nobody"
    schema = (await api.get("/openapi.json"))[1]
    assert schema["paths"]["/input_hook"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ] == {"$ref": "#/components/schemas/WithId"}


async def test_several_streams_and_the_applications_lifespan(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    import contextlib

    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        events.append("start")
        yield {"answer": 42}
        events.append("stop")

    app = FastAPI(lifespan=lifespan)
    first, second = make_stream(), make_stream(inputs=Inputs)
    first.mount(app)
    second.mount(app, "/second", tags=["second"])
    assert app.state.rayrtc_streams == {"default": first, "second": second}
    with pytest.raises(ValueError, match="named 'default'"):
        make_stream(name="default").mount(app, "/third")
    with pytest.raises(ValueError, match="at '/second'"):
        make_stream(name="other").mount(app, "/second/")
    with pytest.raises(ValueError, match="slash"):
        make_stream().mount(app, "third")
    await workers(1)
    api = await replica(app)
    assert events == ["start"]
    offer = {"sdp": SDP, "type": "offer", "webrtc_id": "alice"}
    assert (await api.post("/second/webrtc/offer", offer))[0] == 200
    body = {"webrtc_id": "alice", "threshold": 0.5}
    assert (await api.post("/second/input_hook", body))[0] == 200
    # the other stream has no model: through it, any value could reach the handler
    around = {"webrtc_id": "alice", "inputs": [99]}
    assert (await api.post("/input_hook", around))[0] == 404
    assert (await api.candidate("alice", None))[0] == 404
    assert (await api.get("/outputs/latest", webrtc_id="alice"))[0] == 404
    assert await last(cluster) == [0.5, []]
    paths = (await api.get("/openapi.json"))[1]["paths"]
    assert {"/webrtc/offer", "/second/webrtc/offer", "/second/outputs", "/healthz"} <= set(paths)
    assert "/second/healthz" not in paths


def test_model_without_arguments_is_refused() -> None:
    class Empty(BaseModel):
        webrtc_id: str

    with pytest.raises(ValueError, match="no fields"):
        make_stream(inputs=Empty).mount(FastAPI())
