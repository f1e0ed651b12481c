"""Does a worker keep anything of ended calls? Connects and disconnects many times, prints a table.

    python -m benchmarks.connect_cycles [--cycles 1000] [--every 100]

One worker, clients in this process. Each row: resident memory, open file descriptors and threads of
the worker, keys in Redis. Level means no leak. The exit status is 1 if the last row is above the
row at 20 % of the cycles by more than 5 % of memory, or by 4 descriptors or threads.
"""

import argparse
import asyncio
import time

import psutil
import redis

from tests.clients import AiortcClient
from tests.e2e.stack import Stack

TOGETHER = 4


async def cycle(url: str) -> None:
    client = AiortcClient(url)
    try:
        await client.connect()
        while not client.samples:
            await asyncio.sleep(0.02)
    finally:
        await client.close()


def measure(worker: psutil.Process, store: "redis.Redis[bytes]") -> tuple[float, int, int, int]:
    """MiB, descriptors, threads, keys."""
    return (
        worker.memory_info().rss / 2**20,
        worker.num_fds(),
        worker.num_threads(),
        int(store.dbsize()),
    )


async def run(stack: Stack, cycles: int, every: int) -> bool:
    status = await asyncio.to_thread(stack.status)
    worker = psutil.Process(status["workers"][0]["pid"])
    store: redis.Redis[bytes] = redis.Redis(port=stack.redis_port)
    print(f"{'cycles':>7} {'MiB':>8} {'fds':>5} {'threads':>8} {'keys':>6} {'seconds':>8}")
    rows: dict[int, tuple[float, int, int, int]] = {}
    begin = time.monotonic()
    done = 0
    while done < cycles:
        await asyncio.gather(*(cycle(stack.replicas["a"]) for _ in range(TOGETHER)))
        done += TOGETHER
        if done % every < TOGETHER:
            await asyncio.sleep(2)
            rows[done] = measure(worker, store)
            memory, fds, threads, keys = rows[done]
            elapsed = time.monotonic() - begin
            print(f"{done:7} {memory:8.1f} {fds:5} {threads:8} {keys:6} {elapsed:8.0f}", flush=True)
    base = rows[min(rows, key=lambda count: abs(count - cycles / 5))]
    last = rows[max(rows)]
    return last[0] <= base[0] * 1.05 and last[1] <= base[1] + 4 and last[2] <= base[2] + 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100)
    options = parser.parse_args()
    stack = Stack(workers=1)
    # ended connections are remembered for this long: the number of keys is level after it
    stack.env["RAYRTC_RECORD_TTL"] = "20"
    try:
        stack.start()
        level = asyncio.run(run(stack, options.cycles, options.every))
    finally:
        stack.stop()
    print("level" if level else "NOT level")
    raise SystemExit(0 if level else 1)


if __name__ == "__main__":
    main()
