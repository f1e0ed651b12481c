"""A worker's connections without Ray and Redis, and handlers for them to run."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np

from rayrtc import AsyncStreamHandler, Stream, StreamHandler
from rayrtc.cluster.models import EndReason, LiveConnection, OfferRequest
from rayrtc.settings import Settings
from tests.clients import AiortcClient
from workers.connection import Connection
from workers.connections import Connections
from workers.udp_mux import UDPMux


class Echo(StreamHandler):
    """Plays what it hears; blocks in `emit` when it hears nothing, as FastRTC's example."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=24000)
        self.heard: queue.Queue[Any] = queue.Queue()
        self.shutdowns = 0

    def copy(self) -> "Echo":
        return type(self)()

    def receive(self, frame: Any) -> None:
        self.heard.put(frame)

    def emit(self) -> Any:
        return self.heard.get()

    def shutdown(self) -> None:
        self.shutdowns += 1


class AsyncEcho(AsyncStreamHandler):
    """The same with coroutines."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=24000)
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.shutdowns = 0

    def copy(self) -> "AsyncEcho":
        return type(self)()

    async def receive(self, frame: Any) -> None:
        self.heard.put_nowait(frame)

    async def emit(self) -> Any:
        return await self.heard.get()

    async def shutdown(self) -> None:
        self.shutdowns += 1


class Recorder:
    """Takes outputs and ends as Redis would."""

    def __init__(self) -> None:
        self.outputs: list[tuple[str, int, str]] = []
        self.ends: list[tuple[str, int, EndReason]] = []

    def append(self, connection_id: str, session: int, encoded: str) -> "asyncio.Future[bool]":
        self.outputs.append((connection_id, session, encoded))
        return self._written()

    def end(self, connection_id: str, session: int, reason: EndReason) -> "asyncio.Future[bool]":
        self.ends.append((connection_id, session, reason))
        return self._written()

    def _written(self) -> "asyncio.Future[bool]":
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done


class Host:
    """Connections of one stream, on loopback, and who asked what of them."""

    def __init__(self, handler: Any, *, outputs: Any = None, **options: Any) -> None:
        advertised = options.pop("advertised", ())
        settings = {"slots": options.pop("slots", 8)}
        for name in ("connect_timeout", "trickle_window"):
            if name in options:
                settings[name] = options.pop(name)
        self.settings = Settings(**settings)
        self.stream = Stream(handler, **{"modality": "audio", "name": "test", **options})
        self.recorder = Recorder()
        self.ended: list[tuple[LiveConnection, EndReason]] = []
        self.udp_mux = UDPMux(lambda: ("127.0.0.1",), advertised=advertised)
        self.connections = Connections(
            {"test": self.stream},
            self.settings,
            outputs or self.recorder,
            self._on_end,
            self.udp_mux,
        )
        self.session = 0

    async def close(self) -> None:
        """End everything."""
        await self.connections.close_all(EndReason.WORKER_STOPPED, 5)
        self.udp_mux.close()
        assert not len(self.connections)

    async def _on_end(self, connection: LiveConnection, reason: EndReason) -> None:
        self.ended.append((connection, reason))

    def request(self, connection_id: str, sdp: str, session: int | None = None) -> OfferRequest:
        if session is None:
            self.session = session = self.session + 1
        return OfferRequest(connection_id=connection_id, session=session, stream="test", sdp=sdp)

    async def call(self, client: AiortcClient) -> Connection:
        """Connect a client; its connection."""
        body = await client.create_offer()
        answer = await self.connections.offer(self.request(client.webrtc_id, body["sdp"]))
        await client.accept({"sdp": answer.sdp, "type": "answer"})
        connection = self.connections._connections[client.webrtc_id]
        await until(lambda: connection.state != "connecting")
        return connection

    @property
    def reasons(self) -> list[EndReason]:
        return [reason for _, reason in self.ended]


@asynccontextmanager
async def hosting(handler: Any, **options: Any) -> AsyncIterator[Host]:
    """A host that is empty again afterwards, whatever the test did."""
    host = Host(handler, **options)
    try:
        yield host
    finally:
        await host.close()


@asynccontextmanager
async def calling(host: Host, **options: Any) -> AsyncIterator[tuple[AiortcClient, Connection]]:
    """A connected client."""
    client = AiortcClient("", **options)
    try:
        yield client, await host.call(client)
    finally:
        await client.close()


async def until(condition: Callable[[], Any], timeout: float = 15.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def peak(client: AiortcClient, seconds: float = 1.0) -> float:
    """Hz of the strongest tone in the last `seconds` of what the client heard."""
    samples = np.concatenate(client.samples)[-round(seconds * client.rate) :]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * client.rate / len(samples))


def handler_threads() -> int:
    return sum(thread.name.startswith("handler-") for thread in threading.enumerate())


@contextmanager
def losing(host: Host, every: int) -> Iterator[list[int]]:
    """Each so many of the RTP packets from the client is lost on its way; how many have come."""
    (local,) = host.udp_mux.sockets()
    received, count = local._received, [0]

    def lossy(data: bytes, address: Any) -> None:
        if 128 <= data[0] < 192 and data[1] & 0x7F >= 96:
            count[0] += 1
            if count[0] % every == 0:
                return
        received(data, address)

    local._received = lossy  # type: ignore[method-assign]
    try:
        yield count
    finally:
        local._received = received  # type: ignore[method-assign]
