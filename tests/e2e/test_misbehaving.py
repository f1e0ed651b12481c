"""Handlers that block, raise, hang or take all memory. Other callers must not notice.

How steadily their packets come is measured by `benchmarks/misbehaving_handlers.py`; here is looked
at what must hold on the busiest machine: that none is lost.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.clients import AiortcClient
from tests.e2e.packets import Listener
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack

HARMLESS = ["sleeps", "never-returns", "spins", "never-returns-async", "raises", "raises-async"]
"""Those that block no event loop: the callers of their own worker do not notice them either."""


async def workers_of(stack: Stack) -> dict[str, str]:
    """The worker of each connection."""
    status = await asyncio.to_thread(stack.status)
    return {c["connection_id"]: c["worker_id"] for c in status["connections"]}


async def pids(stack: Stack) -> dict[str, int]:
    status = await asyncio.to_thread(stack.status)
    return {worker["worker_id"]: worker["pid"] for worker in status["workers"]}


def log_lines(stack: Stack, **fields: str) -> list[dict[str, Any]]:
    """What the workers logged with these fields."""
    lines = []
    for line in (stack.logs / "workers.log").read_text(errors="replace").splitlines():
        if found := re.search(r"\{.*\}", line):
            with contextlib.suppress(ValueError):
                entry = json.loads(found[0])
                if fields.items() <= entry.items():
                    lines.append(entry)
    return lines


def node_metric(stack: Stack, name: str, **labels: str) -> float:
    """The sum of a metric of the node over its workers."""
    text = httpx.get(f"http://127.0.0.1:{stack.metrics_port}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def eventually(condition: Any, timeout: float = 30) -> None:
    """Until `condition`, called on a thread, holds."""
    async with asyncio.timeout(timeout):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.2)


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[dict[str, Listener]]:
    """A listener on each worker, by the worker's id."""
    await asyncio.to_thread(stack.wait_ready)
    listeners: list[Listener] = []
    chosen: dict[str, Listener] = {}
    try:
        while len(chosen) < 2:
            listener = Listener(stack.replicas["b"] + "/tone")
            listeners.append(listener)
            await listener.connect()
            chosen.setdefault((await workers_of(stack))[listener.webrtc_id], listener)
        async with asyncio.timeout(15):
            while not all(listener.packets for listener in listeners):
                await asyncio.sleep(0.05)
        yield chosen
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


@asynccontextmanager
async def calling(stack: Stack, name: str) -> AsyncIterator[AiortcClient]:
    """A call to a misbehaving handler, which may end it before it is connected."""
    client = AiortcClient(stack.replicas["a"] + f"/{name}")
    try:
        with contextlib.suppress(TimeoutError):
            await client.connect(5)
        yield client
    finally:
        await client.close()


async def ended(stack: Stack, client: AiortcClient) -> str:
    """The reason of the call's end, from the event stream."""
    path = client.url[client.url.rindex("/") :]
    reader = Reader(stack.replicas["b"] + path + "/outputs", client.webrtc_id)
    try:
        await reader.wait_for(1, "end", timeout=40)
        return str(json.loads(reader.outputs("end")[0].data)["reason"])
    finally:
        await reader.close()


async def goes_on(listeners: list[Listener], begin: float, packets: int = 50) -> None:
    """Each listener gets more packets, and has lost none since `begin`."""
    counts = [len(listener.packets) for listener in listeners]
    async with asyncio.timeout(30):
        while any(
            len(listener.packets) < count + packets
            for listener, count in zip(listeners, counts, strict=True)
        ):
            await asyncio.sleep(0.05)
    assert [listener.span(begin, time.monotonic()).lost for listener in listeners] == [0] * len(
        listeners
    )


async def test_handlers_that_block_no_loop_harm_nobody(stack: Stack) -> None:
    """On their own worker neither: sleeping, raising, never returning, even computing for ever."""
    async with listening(stack) as listeners, contextlib.AsyncExitStack() as calls:
        before = await pids(stack)
        slots = node_metric(stack, "rayrtc_worker_connections")
        raised = node_metric(stack, "rayrtc_worker_handler_errors_total", stream="raises")
        begin = time.monotonic()
        clients = {name: await calls.enter_async_context(calling(stack, name)) for name in HARMLESS}
        await goes_on(list(listeners.values()), begin)
        for name in ("raises", "raises-async"):
            assert await ended(stack, clients[name]) == "handler_error"
            message = await clients[name].wait_for_message("error")
            assert message["data"] == "always"
            lines = log_lines(stack, connection_id=clients[name].webrtc_id, stream=name)
            failed = [line for line in lines if "exception" in line]
            assert {line["method"] for line in failed} >= {"emit"}
            assert "RuntimeError: always" in failed[0]["exception"]
        assert node_metric(stack, "rayrtc_worker_handler_errors_total", stream="raises") > raised
        alive = await workers_of(stack)
        assert [name for name in HARMLESS if clients[name].webrtc_id in alive] == HARMLESS[:4]
        await calls.aclose()
        await eventually(lambda: node_metric(stack, "rayrtc_worker_connections") == slots)
        left = "rayrtc_worker_handler_calls_left_running"
        await eventually(lambda: node_metric(stack, left) == 0)
        await goes_on(list(listeners.values()), begin)
        assert await pids(stack) == before


async def test_an_async_handler_that_blocks_its_loop_is_named_and_harms_its_own_worker_only(
    stack: Stack,
) -> None:
    async with listening(stack) as listeners:
        before = await pids(stack)
        begin = time.monotonic()
        async with calling(stack, "sleeps-async") as client:
            worker = (await workers_of(stack))[client.webrtc_id]
            others = [one for worker_id, one in listeners.items() if worker_id != worker]
            named = {
                "connection_id": client.webrtc_id,
                "stream": "sleeps-async",
                "handler": "AsyncSleeping",
                "method": "receive",
                "worker_id": worker,
            }
            await eventually(lambda: log_lines(stack, level="warning", **named))
            (line, *_) = log_lines(stack, level="warning", **named)
            assert "time.sleep(2)" in line["stack"]
            await goes_on(others, begin)
        # with its call gone, the worker serves the others as before, and has lost nothing of theirs
        await goes_on(list(listeners.values()), begin)
        labels = {"stream": "sleeps-async", "method": "receive"}
        blocked = node_metric(stack, "rayrtc_worker_loop_blocked_seconds_total", **labels)
        assert blocked > 1
        assert await pids(stack) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("spins-async", "worker_lost"),
        ("hoards", "out_of_memory"),
        ("hoards-async", "out_of_memory"),
    ],
)
async def test_a_handler_that_costs_its_worker_costs_no_other(
    stack: Stack, name: str, reason: str
) -> None:
    """The worker is replaced, the end has its reason, the slots are free, the others go on."""
    async with listening(stack) as listeners:
        before = await pids(stack)
        over = node_metric(stack, "rayrtc_node_workers_out_of_memory_total")
        begin = time.monotonic()
        async with calling(stack, name) as client:
            assert await ended(stack, client) == reason
        (kept,) = [one for w, one in listeners.items() if w in await pids(stack)]
        await goes_on([kept], begin)
        (lost,) = [one for one in listeners.values() if one is not kept]
        assert await ended(stack, lost) == reason
        await asyncio.to_thread(stack.wait_ready)
        assert len(before.keys() & (await pids(stack)).keys()) == 1
        await goes_on([kept], begin)
        assert client.webrtc_id not in await workers_of(stack)
        log = (stack.logs / "workers.log").read_text(errors="replace")
        if reason == "out_of_memory":
            assert node_metric(stack, "rayrtc_node_workers_out_of_memory_total") == over + 1
            assert any("MiB" in line["message"] for line in log_lines(stack, level="error"))
            assert "misbehaving.py" in log, "the stacks"
        else:
            assert "because of emit of AsyncSpinning" in log
