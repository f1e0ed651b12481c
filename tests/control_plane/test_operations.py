"""What an operator's probes and a lone stream's page are answered."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from control_plane.app import create_app
from rayrtc.free_port import free_port
from rayrtc.turn_secret import turn_password
from tests.control_plane.conftest import SECRET, Inputs, Replica, Workers, make_stream
from tests.e2e.stack import wait_until

ROOT = Path(__file__).parents[2]


async def test_readiness_follows_the_workers(replica: Replica, workers: Workers) -> None:
    api = await replica()
    assert await api.get("/healthz") == (200, {"status": "ok"})
    status, body = await api.get("/readyz")
    assert status == 503
    assert body["meta"] == {"error": "no_worker_available", "detail": "no worker is ready"}
    await workers(2)
    assert await api.get("/readyz") == (200, {"status": "ready", "workers": 2})
    assert await api.metric('rayrtc_workers{state="ready"}') == 2
    assert await api.metric('rayrtc_workers{state="draining"}') == 0
    assert await api.metric("rayrtc_redis_up") == 1


async def test_metrics_are_valid(replica: Replica, workers: Workers) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    await workers(1)
    api = await replica()
    await api.offer("alice")
    async with api.session.get(api.url + "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        families = {f.name: f for f in text_string_to_metric_families(await response.text())}
    live = {"stream": "default", "state": "live"}
    (sample,) = [s for s in families["rayrtc_stream_connections"].samples if s.labels == live]
    assert sample.value == 1
    assert families["rayrtc_offer_seconds"].type == "histogram"


@pytest.mark.parametrize("kind", ["dict", "sync", "async", "bound", "none"])
async def test_rtc_configuration(replica: Replica, kind: str) -> None:
    servers = {"iceServers": [{"urls": "turn:x", "credential": "c"}]}

    class Source:
        def bound(self) -> dict[str, Any]:
            return servers

    async def source() -> dict[str, Any]:
        return servers

    kinds = {
        "dict": servers,
        "sync": lambda: servers,
        "async": source,
        "bound": Source().bound,
        "none": None,
    }
    api = await replica(make_stream(rtc_configuration=kinds[kind]))
    expected = {} if kind == "none" else servers
    assert await api.get("/rtc-configuration") == (200, expected)


@pytest.mark.parametrize(
    "own", [None, {"iceServers": [{"urls": "stun:x"}]}, {"iceServers": {"urls": "stun:x"}}]
)
async def test_turn_servers_of_the_cluster_are_added(replica: Replica, own: Any) -> None:
    """Without them a client behind a firewall has no call, whatever its stream was written with."""
    api = await replica(
        make_stream(rtc_configuration=own and {**own, "iceTransportPolicy": "relay"}),
        turn_urls=("turn:turn.test:3478", "turns:turn.test:443"),
        turn_secret=SecretStr("shared"),
    )
    status, configuration = await api.get("/rtc-configuration")
    assert status == 200
    *first, added = configuration.pop("iceServers")
    assert first == ([{"urls": "stun:x"}] if own else [])
    assert configuration == ({"iceTransportPolicy": "relay"} if own else {})
    assert added["urls"] == ["turn:turn.test:3478", "turns:turn.test:443"]
    assert added["credential"] == turn_password("shared", added["username"])
    _, again = await api.get("/rtc-configuration")
    assert again["iceServers"][-1]["username"] != added["username"]
    async with api.session.get(api.url + "/rtc-configuration") as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_ice_servers_that_are_none_are_the_streams_fault(replica: Replica) -> None:
    api = await replica(
        make_stream(rtc_configuration={"iceServers": 5}),
        turn_urls=("turn:turn.test",),
        turn_secret=SecretStr("shared"),
    )
    status, body = await api.get("/rtc-configuration")
    assert (status, body["meta"]["error"]) == (503, "ice_servers_unavailable")


async def test_rtc_configuration_that_fails(replica: Replica) -> None:
    def source() -> dict[str, Any]:
        raise LookupError("no credentials")

    api = await replica(make_stream(rtc_configuration=source))
    status, body = await api.get("/rtc-configuration")
    assert (status, body["meta"]["error"]) == (503, "ice_servers_unavailable")


class Named(BaseModel):
    """</script><script>alert(1)</script> & \u2028"""

    webrtc_id: str
    text: str = "</script>"


async def test_page_of_a_lone_stream(replica: Replica) -> None:
    stream = make_stream(
        inputs=Named,
        ui_args={"title": "</script><b>"},
        track_constraints={"echo": True},
        rtp_params={"degradationPreference": "balanced"},
    )
    api = await replica(stream)
    async with api.session.get(api.url + "/") as response:
        assert response.status == 200
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
        html = await response.text()
    assert "__STREAM_CONFIG__" not in html
    found = re.search(r'<script[^>]*id="stream-config">(.*?)</script>', html, re.DOTALL)
    assert found
    config = json.loads(found[1])
    assert config["title"] == "</script><b>"
    assert config["name"] == "default"
    assert (config["modality"], config["mode"], config["prefix"]) == ("audio", "send-receive", "")
    assert config["track_constraints"] == {"echo": True}
    assert config["rtp_params"] == {"degradationPreference": "balanced"}
    assert list(config["inputs_schema"]["properties"]) == ["text"]
    assert config["inputs_schema"]["required"] == []
    assert "<" not in found[1]
    assert "//" not in re.sub(r"(\w+)://www\.w3\.org/\S*", "", html.replace(found[0], ""))
    for asset in re.findall(r'(?:src|href)="([^"]+)"', html):
        async with api.session.get(f"{api.url}/{asset}") as response:
            assert response.status == 200, asset


async def test_an_applications_root_is_its_own(replica: Replica) -> None:
    app = FastAPI()
    make_stream(inputs=Inputs).mount(app)
    assert create_app(app) is app
    api = await replica(app)
    assert (await api.get("/"))[0] == 404
    assert (await api.get("/docs"))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_on_a_signal(redis_url: str, tmp_path: Path, number: signal.Signals) -> None:
    """As a process: `serve` returns and nothing but the caller decides on the exit status."""
    port = free_port()
    (tmp_path / "served.py").write_text(
        "import sys\n"
        "from control_plane.serve import serve\n"
        "from rayrtc.settings import Settings\n"
        "from tests.control_plane.conftest import make_stream\n"
        "stream = make_stream()\n"
        "if __name__ == '__main__':\n"
        f"    serve('served:stream', Settings(redis_url={redis_url!r}, port={port},\n"
        f"        cluster_secret={SECRET!r}))\n"
        "    print('returned')\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "served.py")],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: httpx.get(url + "/healthz").status_code == 200, 20, "replica")
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0, output
        assert "returned" in output
    finally:
        process.kill()
        process.communicate()
