"""Parts die by SIGKILL. What does not live in the part must not notice."""

import asyncio
import json
import os
import signal
import time

import numpy as np

from tests.clients import AiortcClient
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack
from tests.e2e.test_calls import post


async def connected(url: str, count: int) -> list[AiortcClient]:
    clients = [AiortcClient(url) for _ in range(count)]
    await asyncio.gather(*(client.connect() for client in clients))
    return clients


async def test_a_killed_worker_ends_its_calls_only(stack: Stack) -> None:
    url = stack.replicas["a"]
    clients = await connected(url, 8)
    status = await asyncio.to_thread(stack.status)
    where = {c["connection_id"]: c["worker_id"] for c in status["connections"]}
    workers = {worker["worker_id"]: worker for worker in status["workers"]}
    victim = max(workers, key=lambda w: list(where.values()).count(w))
    lost = [c for c in clients if where[c.webrtc_id] == victim]
    kept = [c for c in clients if where[c.webrtc_id] != victim]
    assert lost
    assert kept, "both workers have calls"
    readers = {c.webrtc_id: Reader(url + "/updates", c.webrtc_id) for c in clients}
    await asyncio.gather(*(reader.opened.wait() for reader in readers.values()))
    await asyncio.sleep(2)
    before = [await client.packets_lost() for client in kept]
    killed = time.monotonic()
    os.kill(workers[victim]["pid"], signal.SIGKILL)
    await asyncio.gather(*(readers[c.webrtc_id].wait_for(1, "end", timeout=5) for c in lost))
    told = time.monotonic() - killed
    for client in lost:
        assert (
            json.loads(readers[client.webrtc_id].outputs("end")[0].data)["reason"] == "worker_lost"
        )
    held = await asyncio.to_thread(stack.status)
    assert victim not in {worker["worker_id"] for worker in held["workers"]}
    assert sum(w["used"] + w["reserved"] for w in held["workers"]) == len(kept)
    await asyncio.to_thread(stack.wait_ready)
    full = time.monotonic() - killed
    assert [await client.packets_lost() for client in kept] == before
    await asyncio.gather(*(client.hear(1) for client in kept))
    for client in kept:
        assert not readers[client.webrtc_id].outputs("end")
    print(f"told after {told:.2f} s, pool full after {full:.2f} s")
    await asyncio.gather(*(client.close() for client in clients))
    await asyncio.gather(*(reader.close() for reader in readers.values()))


async def test_redis_killed_and_restarted_empty(stack: Stack) -> None:
    url = stack.replicas["b"]
    (client,) = await connected(url, 1)
    reader = Reader(url + "/updates", client.webrtc_id)
    await reader.opened.wait()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(stack.kill, "redis", signal.SIGKILL)
    await client.hear(2)
    status, body = await post(url + "/webrtc/offer", await AiortcClient(url).create_offer())
    assert status == 503, body
    await asyncio.to_thread(stack.start_redis)
    await asyncio.to_thread(stack.wait_ready)
    newcomers = await connected(url, 2)
    status = await asyncio.to_thread(stack.status)
    ids = {c["connection_id"] for c in status["connections"]}
    assert ids == {client.webrtc_id, *(c.webrtc_id for c in newcomers)}, (
        "the running call came back"
    )
    hook = {"webrtc_id": client.webrtc_id, "inputs": ["after"]}
    assert (await post(url + "/input_hook", hook))[0] == 200
    await reader.wait_for(1)
    assert reader.outputs()[0].data == "after"
    await client.hear(1)
    assert np.concatenate(client.samples[-50:]).std() > 100
    await asyncio.gather(*(c.close() for c in [client, *newcomers]))
    await reader.close()
