"""What a command to Redis costs the process that asks: one shared connection and a pool.

    python -m benchmarks.redis_commands

Some tasks at a time ask for a key again and again. CPU is that of this process; the rounds
alternate, and the least of each is shown.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from rich.console import Console
from rich.table import Table

from rayrtc.cluster.redis import SOCKET_TIMEOUT, RedisPools
from rayrtc.settings import Settings
from tests.redis_server import RedisServer

ROUNDS = 5
COMMANDS = 20
TASKS = (1, 10, 50, 200)
POOL = 32


async def cpu(get: Callable[[str], Awaitable[Any]], tasks: int) -> float:
    """Microseconds for each command."""

    async def use(number: int) -> None:
        for _ in range(COMMANDS):
            await get(f"key-{number}")

    begin = time.process_time()
    await asyncio.gather(*map(use, range(tasks)))
    return (time.process_time() - begin) / (tasks * COMMANDS) * 1e6


async def measure(url: str) -> Table:
    pool = BlockingConnectionPool.from_url(
        url, max_connections=POOL, timeout=20, socket_timeout=SOCKET_TIMEOUT, decode_responses=True
    )
    pools = RedisPools(Settings(redis_url=url))
    clients = {"shared": pools.commands, f"pool of {POOL}": Redis(connection_pool=pool)}
    table = Table("tasks", *(f"{name}, µs a command" for name in clients))
    for tasks in TASKS:
        rounds: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(ROUNDS):
            for name, client in clients.items():
                rounds[name].append(await cpu(client.get, tasks))
        table.add_row(str(tasks), *(f"{min(times):.0f}" for times in rounds.values()))
    await pools.aclose()
    await pool.disconnect()
    return table


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            Console().print(asyncio.run(measure(server.url)))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
