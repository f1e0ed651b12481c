"""One trace shows a client's way from its request to its media, over both services."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from rayrtc.free_port import free_port
from tests.clients import AiortcClient
from tests.e2e.stack import RAYRTC, ROOT, is_ready, wait_until
from tests.otlp import Collector
from tests.socket_client import SocketClient
from tests.workers.conftest import MakePool
from tests.workers.ray_pool import RayPool

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = 2, 3
"""`SpanKind` of OTLP."""


@contextmanager
def replica(pool: RayPool, log: Path) -> Iterator[str]:
    """A replica for the pool's stream, with the same environment; its URL."""
    port = free_port()
    path = os.pathsep.join((str(ROOT), str(pool.directory)))
    environment = {**pool.environment, **pool.settings.environment(), "PYTHONPATH": path}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*RAYRTC, "control-plane", f"{pool.module}:stream", "--port", str(port)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_ready(url), 60, "the replica")
        yield url
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(5)


async def test_a_trace_from_the_offer_to_its_media(make_pool: MakePool, tmp_path: Path) -> None:
    with Collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        pool = await make_pool(environment=environment, connect_timeout=3)
        await pool.until(lambda status: status.full)
        (worker,) = await pool.workers()
        with replica(pool, tmp_path / "replica.log") as url:
            connected, silent = AiortcClient(url), AiortcClient(url)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            async with aiohttp.ClientSession() as session:
                body = await connected.create_offer()
                async with session.post(
                    url + "/webrtc/offer", json=body, headers=headers
                ) as response:
                    await connected.accept(await response.json())
                async with session.post(
                    url + "/webrtc/offer", json=await silent.create_offer()
                ) as response:
                    assert response.status == 200
            async with SocketClient(url) as socket:
                await socket.start()
                await socket.send(event="stop")
                await socket.wait_closed()
            await asyncio.to_thread(
                collector.until,
                lambda: [span.name for span in list(collector.spans)].count("connect") == 3,
            )
            await connected.close()
            await silent.close()
        assert "Traceback" not in (tmp_path / "replica.log").read_text()

    spans = collector.of(TRACE)
    names = ("offer", "assign", "ask worker", "answer", "connect")
    assert set(spans) == set(names)
    assert [spans[name].parent for name in names] == [
        PARENT,
        *(spans[name].id for name in names[:-1]),
    ]
    for name in ("offer", "assign", "ask worker"):
        assert spans[name].service == "rayrtc-control-plane"
    for name in ("answer", "connect"):
        assert (spans[name].service, spans[name].instance) == ("rayrtc-worker", worker.worker_id)
    assert (spans["offer"].kind, spans["ask worker"].kind) == (SERVER, CLIENT)
    assert spans["answer"].kind == SERVER
    assert not any(span.failed for span in spans.values())
    for name in ("offer", "ask worker", "answer", "connect"):
        assert spans[name].attributes["rayrtc.connection_id"] == connected.webrtc_id
    ((event, about),) = spans["assign"].events
    assert (event, about["rayrtc.worker_id"]) == ("reserved", worker.worker_id)

    (trace,) = {
        span.trace
        for span in collector.spans
        if span.attributes.get("rayrtc.connection_id") == silent.webrtc_id
    }
    failed = collector.of(trace)["connect"]
    assert failed.failed
    assert failed.attributes["error.type"] == "connect_timeout"
    (trace,) = {
        span.trace
        for span in collector.spans
        if span.attributes.get("rayrtc.connection_id") == socket.id
    }
    assert set(collector.of(trace)) == set(names)
    assert collector.of(trace)["connect"].attributes["rayrtc.transport"] == "websocket"
