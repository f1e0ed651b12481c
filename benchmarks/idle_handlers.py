"""What does a call cost whose handler has nothing to say? Prints milliseconds of CPU a second.

    python -m benchmarks.idle_handlers [--connections 20] [--seconds 10]

Connections over WebSocket to one worker's code in this process; `emit` returns None at once, or
waits. The clients send nothing. Their own cost, and that of the process, is part of the figures.
"""

import argparse
import asyncio
import contextlib
import time
from typing import Any

from rayrtc import AsyncStreamHandler, StreamHandler
from tests.workers.test_websocket import WorkerClient, serving


class Sync(StreamHandler):
    """Returns None."""

    def copy(self) -> "Sync":
        return type(self)()

    def receive(self, frame: Any) -> None:
        pass

    def emit(self) -> None:
        return None


class Async(AsyncStreamHandler):
    """Returns None."""

    def copy(self) -> "Async":
        return type(self)()

    async def receive(self, frame: Any) -> None:
        pass

    async def emit(self) -> None:
        return None


class Waiting(Async):
    """Waits for something to say."""

    async def emit(self) -> None:
        await asyncio.Event().wait()


async def measure(handler: Any, connections: int, seconds: float) -> float:
    """Milliseconds of CPU a second for each connection."""
    async with (
        serving(handler, slots=connections) as (host, port),
        contextlib.AsyncExitStack() as clients,
    ):
        for _ in range(connections):
            client = await clients.enter_async_context(WorkerClient(host, port))
            await client.start()
        await asyncio.sleep(1)
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        return (time.process_time() - used) / (time.monotonic() - began) / connections * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    print(f"{'handler':28} ms of CPU a second, each connection")
    for name, handler in (
        ("sync, returns None", Sync()),
        ("async, returns None", Async()),
        ("async, waits", Waiting()),
    ):
        cost = asyncio.run(measure(handler, options.connections, options.seconds))
        print(f"{name:28} {cost:8.2f}", flush=True)


if __name__ == "__main__":
    main()
