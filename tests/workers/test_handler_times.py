"""What operators see of how long handlers take: the ones that frames have to wait for."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from rayrtc import CloseStream
from rayrtc.cluster.models import EndReason
from tests.workers.host import AsyncEcho, Echo, calling, hosting, until
from tests.workers.test_combinations import flip, sound
from workers.handler_times import BOUNDS, ConnectionTimes, HandlerTimes


def sample(name: str, method: str, **labels: str) -> float:
    labels = {"stream": "test", "method": method, **labels}
    return REGISTRY.get_sample_value(f"rayrtc_worker_handler_{name}", labels) or 0.0


def since(name: str, method: str, **labels: str) -> Callable[[], float]:
    """How much a sample has grown since now."""
    before = sample(name, method, **labels)
    return lambda: sample(name, method, **labels) - before


class Sleepy(Echo):
    """Waits in `receive`, and computes in `emit`."""

    def receive(self, frame: Any) -> None:
        time.sleep(0.03)

    def emit(self) -> Any:
        ends = time.thread_time() + 0.01
        while time.thread_time() < ends:
            pass


async def test_a_slow_receive_on_a_thread() -> None:
    count, seconds = since("seconds_count", "receive"), since("seconds_sum", "receive")
    fast = since("seconds_bucket", "receive", le="0.02")
    waiting, computing = since("busy_seconds_total", "receive"), since("busy_seconds_total", "emit")
    async with hosting(Sleepy()) as host:
        async with calling(host):
            await until(lambda: count() >= 10 and computing() > 0.1)
        await until(lambda: host.reasons == [EndReason.CLIENT_CLOSED])
        assert seconds() / count() > 0.03
        assert fast() == 0
        assert waiting() < 0.1 * seconds()
        assert sample("seconds_count", "emit") == 0  # it waits there for something to say
        told = count()
    assert count() == told, "what a connection has taken stays when it is gone"


async def test_an_async_handler() -> None:
    count, fast = since("seconds_count", "receive"), since("seconds_bucket", "receive", le="0.02")
    receiving, emitting = (since("busy_seconds_total", name) for name in ("receive", "emit"))
    async with hosting(AsyncEcho()) as host, calling(host):
        await until(lambda: count() >= 20)
        assert fast() > 0.5 * count()
        assert 0 < receiving() < 0.5
        assert 0 < emitting() < 0.5


async def test_a_function_of_frames() -> None:
    count, busy = since("seconds_count", "video"), since("busy_seconds_total", "video")
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]):
        await until(lambda: count() >= 5 and busy() > 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_steps_of_a_generator(kind: str) -> None:
    def tune() -> Iterator[Any]:
        for number in range(5):
            time.sleep(0.06)
            yield sound(number)

    async def async_tune() -> Any:
        for number in range(5):
            await asyncio.sleep(0.06)
            yield sound(number)
        yield CloseStream()

    count, fast = (
        since("seconds_count", "generator"),
        since("seconds_bucket", "generator", le="0.05"),
    )
    handler = tune if kind == "sync" else async_tune
    async with hosting(handler, mode="receive") as host, calling(host, direction="recvonly"):
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])
    assert count() == 6  # the last finds its end
    assert fast() <= 1


def families(times: HandlerTimes) -> dict[str, list[float]]:
    return {family.name: [s.value for s in family.samples] for family in times.collect()}


def test_what_is_added_while_connections_end_is_neither_lost_nor_doubled() -> None:
    times = HandlerTimes()
    open = [ConnectionTimes("echo", times) for _ in range(3)]
    stop = threading.Event()

    def call(connection: ConnectionTimes) -> None:
        while not stop.is_set():
            connection["receive"].took(0.0005)

    threads = [threading.Thread(target=call, args=(connection,)) for connection in open]
    for thread in threads:
        thread.start()
    before = 0.0
    for _ in range(200):
        total = families(times)["rayrtc_worker_handler_seconds"][len(BOUNDS)]
        assert total >= before
        before = total
    stop.set()
    for thread in threads:
        thread.join()
    told = families(times)
    for connection in open:
        connection.close()
    assert families(times) == told
    assert not times.open
