"""A replica on a real socket, a real Redis, and workers that do what a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from control_plane.app import create_app
from control_plane.forwarded import ForwardedHeaders
from control_plane.replica import replica_of
from control_plane.serve import WEBSOCKETS, Server
from rayrtc import AsyncStreamHandler, AudioEmitType, Stream
from rayrtc.cluster.client import Cluster
from rayrtc.settings import Settings
from tests.control_plane.worker import FakeWorker

SECRET = "a secret for the tests only"
SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\n"
    "a=rtpmap:111 opus/48000/2\r\n"
)


class Silence(AsyncStreamHandler):
    def copy(self) -> "Silence":
        return Silence()

    async def receive(self, frame: tuple[int, NDArray[Any]]) -> None:
        pass

    async def emit(self) -> AudioEmitType:
        return None


class Inputs(BaseModel):
    threshold: float = Field(ge=0, le=1)
    words: list[str] = []


def make_stream(**options: Any) -> Stream:
    return Stream(Silence(), **{"modality": "audio", "concurrency_limit": 100, **options})


class Api:
    """An HTTP client of one replica."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body, **options) as response:
            return response.status, await response.json()

    async def get(self, path: str, **params: Any) -> tuple[int, Any]:
        async with self.session.get(self.url + path, params=params) as response:
            text = response.content_type != "application/json"
            return response.status, await (response.text() if text else response.json())

    async def offer(self, webrtc_id: str, sdp: str = SDP) -> tuple[int, Any]:
        body = {"sdp": sdp, "type": "offer", "webrtc_id": webrtc_id}
        return await self.post("/webrtc/offer", body)

    async def candidate(self, webrtc_id: str, candidate: Any) -> tuple[int, Any]:
        body = {"type": "ice-candidate", "webrtc_id": webrtc_id, "candidate": candidate}
        return await self.post("/webrtc/offer", body)

    async def metric(self, sample: str) -> float:
        _, text = await self.get("/metrics")
        for line in text.splitlines():
            if line.startswith(sample + " "):
                return float(line.split()[-1])
        raise AssertionError(f"no sample {sample}")


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        redis_url=redis_url,
        cluster_secret=SECRET,
        lease_interval=0.1,
        lease_ttl=1.0,
        reservation_ttl=10.0,
        worker_timeout=2.0,
        sse_heartbeat=0.5,
    )


@asynccontextmanager
async def serving(
    app: FastAPI, settings: Settings, **options: Any
) -> AsyncIterator[tuple[str, Server]]:
    """The application under uvicorn, as `rayrtc control-plane` runs it but for `options`."""
    create_app(app, settings)
    config = uvicorn.Config(
        ForwardedHeaders(app, settings.trusted_proxies),
        port=0,
        http="httptools",
        **{**WEBSOCKETS, **options},
        proxy_headers=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(config, replica_of(app))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)


Replica = Callable[..., Awaitable[Api]]


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Replica]:
    """Starts replicas: `await replica(app_or_stream, **changed_settings)`."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        )

        async def start(target: Stream | FastAPI | None = None, **changes: Any) -> Api:
            app = create_app(target or make_stream())
            url, _ = await stack.enter_async_context(
                serving(app, settings.model_copy(update=changes))
            )
            return Api(session, url)

        yield start


@pytest.fixture
async def cluster(settings: Settings) -> AsyncIterator[Cluster]:
    async with Cluster(settings) as opened:
        yield opened


Workers = Callable[..., Awaitable[list[FakeWorker]]]


@pytest.fixture
async def workers(cluster: Cluster) -> AsyncIterator[Workers]:
    """Starts workers: `await workers(count)`; offers are admitted when it returns."""
    async with AsyncExitStack() as stack:

        async def start(count: int = 1, slots: int = 8) -> list[FakeWorker]:
            started = [
                await stack.enter_async_context(
                    FakeWorker(cluster, f"worker-{number}", SECRET, slots).running()
                )
                for number in range(count)
            ]
            while len(await cluster.registry.workers()) < count:
                await asyncio.sleep(0.02)
            await asyncio.sleep(2 * cluster.settings.lease_interval + 0.05)
            return started

        yield start


async def held(cluster: Cluster) -> int:
    """Slots that live connections and reservations hold, by worker and by stream."""
    workers = await cluster.registry.workers()
    streams = await cluster.registry.streams(["default"])
    by_worker = sum(worker.used + worker.reserved for worker in workers)
    by_stream = sum(stream.connections + stream.reserved for stream in streams)
    return max(by_worker, by_stream)


async def none_held(cluster: Cluster, timeout: float = 5.0) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while await held(cluster):
                await asyncio.sleep(0.05)
    assert await held(cluster) == 0
