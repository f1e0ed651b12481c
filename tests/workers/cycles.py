"""Connects and disconnects clients of one worker and prints what it holds.

`python -m tests.workers.cycles 1000 [async]`.

The worker's connections run in this process, the clients in another, so that only the worker's
memory, descriptors, threads and tasks are counted.
"""

import asyncio
import gc
import sys
from pathlib import Path

import aiohttp
import psutil

from tests.clients import AiortcClient
from tests.workers.host import AsyncEcho, Echo, Host
from workers.server import WorkerServer

SECRET = "0123456789abcdef"
CONCURRENCY = 4


async def clients(url: str, count: int) -> None:
    """`count` short calls, `CONCURRENCY` at a time."""
    numbers = iter(range(1, count + 1))
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:

        async def call_in_turn() -> None:
            for number in numbers:
                client = AiortcClient("", webrtc_id=f"cycle-{number}")
                body = await client.create_offer()
                offer = {
                    "connection_id": client.webrtc_id,
                    "session": number,
                    "stream": "test",
                    "sdp": body["sdp"],
                }
                async with session.post("/v1/offer", json=offer) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
                await client.accept(answer)
                async with asyncio.timeout(10):
                    while not client.samples:
                        await asyncio.sleep(0.02)
                await client.close()

        await asyncio.gather(*(call_in_turn() for _ in range(CONCURRENCY)))


async def worker(count: int) -> None:
    """Serve the clients of a second process and print a line for every tenth of them."""
    handler = AsyncEcho() if "async" in sys.argv else Echo()
    host = Host(handler, slots=4 * CONCURRENCY)
    server = WorkerServer(host.connections, SECRET, lambda: b"")
    port = await server.start("127.0.0.1")
    process = psutil.Process()
    command = [sys.executable, "-m", "tests.workers.cycles", str(count), f"http://127.0.0.1:{port}"]
    root = Path(__file__).parents[2]
    calling = await asyncio.create_subprocess_exec(*command, cwd=root)
    step = max(1, count // 10)
    shown = 0
    print("  ended    MiB    fds threads  tasks")
    while len(host.ended) < count and calling.returncode is None:
        await asyncio.sleep(0.1)
        if len(host.ended) >= shown + step:
            shown = len(host.ended)
            gc.collect()
            fds, threads, tasks = process.num_fds(), process.num_threads(), len(asyncio.all_tasks())
            memory = process.memory_info().rss / 2**20
            print(f"{shown:7} {memory:6.1f} {fds:6} {threads:7} {tasks:6}", flush=True)
    assert await calling.wait() == 0
    while len(host.connections):
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    gc.collect()
    print(
        f"at rest {process.memory_info().rss / 2**20:6.1f} {process.num_fds():6} "
        f"{process.num_threads():7} {len(asyncio.all_tasks()):6}"
    )
    await server.stop()


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2].startswith("http"):
        asyncio.run(clients(sys.argv[2], int(sys.argv[1])))
    else:
        asyncio.run(worker(int(sys.argv[1])))
