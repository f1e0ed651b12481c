"""A worker as the control plane sees it: a lease in Redis and the internal HTTP server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason, Lease, LiveConnection
from rayrtc.cluster.outputs import OutputWriter

Behaviour = Callable[[dict[str, Any]], Awaitable[web.Response]]

ANSWER = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"


async def answered(body: dict[str, Any]) -> web.Response:
    return web.json_response({"sdp": ANSWER, "type": "answer"})


async def silent(body: dict[str, Any]) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def refusing(status: int, code: str) -> Behaviour:
    async def refused(body: dict[str, Any]) -> web.Response:
        return web.json_response({"code": code, "detail": "told by the worker"}, status=status)

    return refused


async def echoed(socket: web.WebSocketResponse) -> None:
    async for frame in socket:
        await socket.send_str(frame.data)


class FakeWorker:
    """Renews a lease and answers as it is told. Connections it answered are live until closed."""

    def __init__(self, cluster: Cluster, worker_id: str, secret: str, slots: int) -> None:
        self.cluster = cluster
        self.worker_id = worker_id
        self.secret = secret
        self.slots = slots
        self.offer: Behaviour = answered
        self.candidate: Behaviour = answered
        self.serve_socket: Callable[[web.WebSocketResponse], Awaitable[None]] = echoed
        self.refusal: str | None = None
        self.hangs = False
        self.sockets: list[web.WebSocketResponse] = []
        self.offers: list[dict[str, Any]] = []
        self.candidates: list[dict[str, Any]] = []
        self.released: list[dict[str, Any]] = []
        self.live: dict[str, LiveConnection] = {}
        self.outputs = OutputWriter(cluster.pools.commands, cluster.settings, cluster.time)
        self.address = ""

    def _authorized(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.secret}"

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        if not self._authorized(request):
            return web.json_response({"code": "unauthorized"}, status=401)
        body = await request.json()
        self.offers.append(body)
        response = await self.offer(body)
        if response.status == 200:
            self.live[body["connection_id"]] = LiveConnection.model_validate(body)
            await self.renew()
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if not self._authorized(request):
            return web.json_response({"code": "unauthorized"}, status=401)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        body = json.loads(await socket.receive_str())
        self.offers.append(body)
        self.sockets.append(socket)
        if self.refusal is not None:
            await socket.send_json({"refusal": {"code": self.refusal}})
            return socket
        if self.hangs:
            await asyncio.Event().wait()
        connection = self.live[body["connection_id"]] = LiveConnection.model_validate(body)
        await self.renew()
        await socket.send_json({})
        try:
            await self.serve_socket(socket)
        finally:
            self.live.pop(connection.connection_id, None)
            await self.cluster.registry.release(
                connection.connection_id, connection.session, EndReason.CLIENT_CLOSED
            )
        await socket.close()
        return socket

    async def _candidate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.candidates.append(body)
        return await self.candidate(body)

    async def _release(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.released.append(body)
        if body["reason"] != "refused" and body["connection_id"] in self.live:
            await self.close(body["connection_id"], EndReason(body["reason"]))
        self.live.pop(body["connection_id"], None)
        return web.json_response({})

    async def renew(self) -> None:
        lease = Lease(
            worker_id=self.worker_id,
            node="node",
            host="127.0.0.1",
            address=self.address,
            slots=self.slots,
            streams=("default", "second"),
        )
        await self.cluster.registry.renew(lease, list(self.live.values()))

    async def close(self, connection_id: str, reason: EndReason) -> None:
        """End a connection as a worker does."""
        connection = self.live.pop(connection_id)
        self.outputs.end(connection_id, connection.session, reason)
        await self.outputs.flush(2)
        await self.cluster.registry.release(connection_id, connection.session, reason)

    async def put(self, connection_id: str, *args: str) -> None:
        """Append outputs, each the JSON text of its arguments."""
        for text in args:
            json.loads(text)
            self.outputs.append(connection_id, self.live[connection_id].session, text)
        await self.outputs.flush(2)

    async def _renewals(self) -> None:
        while True:
            with contextlib.suppress(OSError, ConnectionError):
                await self.renew()
            await asyncio.sleep(self.cluster.settings.lease_interval)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeWorker"]:
        app = web.Application()
        app.router.add_post("/v1/offer", self._offer)
        app.router.add_post("/v1/candidate", self._candidate)
        app.router.add_post("/v1/release", self._release)
        app.router.add_get("/v1/websocket", self._websocket)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        tasks = [asyncio.create_task(self._renewals()), asyncio.create_task(self.outputs.run())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
