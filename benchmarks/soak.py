"""Does anything leak when calls come and go for long and parts fail? Prints a table.

    python -m benchmarks.soak [--minutes 30] [--calls 20]

A stack on this machine: Redis, a Ray with two workers, two replicas. Callers come, stay for some
seconds and go, some of them without a word. Every half a minute a random part fails: a worker is
killed, stopped for a while or blocked by a handler, a replica or Redis is killed and started again.
Each row is what the processes that live throughout hold. At the end everybody hangs up, and the
exit status is 1 if a slot or a connection is held, or if memory, descriptors, threads or keys are
above their row at a fifth of the time: memory by more than 10 %, the others by more than 10.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import httpx
import psutil
import redis

from tests.clients import AiortcClient
from tests.e2e.packets import Listener
from tests.e2e.stack import Stack, wait_until

FAULT_INTERVAL = (20.0, 40.0)
"""Seconds between two faults."""
STAY = (1.0, 8.0)
"""Seconds that a caller stays."""
RECORD_TTL = 20
SETTLE_TIMEOUT = 90.0


@dataclass
class Sample:
    """What the processes that live throughout hold together."""

    memory: float
    """MiB."""
    descriptors: int
    threads: int
    keys: int


class Soak:
    """The callers, the faults and the samples."""

    def __init__(self, stack: Stack, calls: int) -> None:
        self._stack = stack
        self._calls = calls
        self._stopping = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.samples: list[Sample] = []

    async def run(self, seconds: float) -> None:
        """Callers and faults for so long, with a row every minute."""
        begin = time.monotonic()
        print(f"{'minute':>7} {'MiB':>8} {'fds':>6} {'threads':>8} {'keys':>6}  calls, faults")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._calls):
                tasks.create_task(self._call_for_ever())
            tasks.create_task(self._fail_for_ever())
            while (elapsed := time.monotonic() - begin) < seconds:
                await asyncio.sleep(min(60.0, seconds - elapsed))
                self.sample((time.monotonic() - begin) / 60)
            self._stopping.set()

    def sample(self, minute: float) -> None:
        """Take and print a row."""
        processes = [psutil.Process(self._stack.processes[name].pid) for name in ("a", "workers")]
        with contextlib.suppress(StopIteration):
            processes.append(next(p for p in _tree(processes[1]) if "Supervisor" in p.name()))
        keys = 0
        with contextlib.suppress(redis.RedisError):
            keys = int(redis.Redis(port=self._stack.redis_port).dbsize())
        sample = Sample(
            sum(p.memory_info().rss for p in processes) / 2**20,
            sum(p.num_fds() for p in processes),
            sum(p.num_threads() for p in processes),
            keys,
        )
        self.samples.append(sample)
        print(
            f"{minute:7.1f} {sample.memory:8.1f} {sample.descriptors:6} {sample.threads:8} "
            f"{sample.keys:6}  {dict(self.outcomes)} {dict(self.faults)}",
            flush=True,
        )

    async def _call_for_ever(self) -> None:
        while not self._stopping.is_set():
            url = random.choice(list(self._stack.replicas.values()))
            kind = random.random()
            try:
                async with asyncio.timeout(60):
                    if kind < 0.1:
                        await self._vanish(url)
                    else:
                        await self._call(url)
            except (AssertionError, TimeoutError, aiohttp.ClientError, OSError) as error:
                self.outcomes[_told(error)] += 1
                await asyncio.sleep(1)

    async def _call(self, url: str) -> None:
        listener = Listener(url)
        try:
            await listener.connect(10)
            await asyncio.sleep(random.uniform(*STAY))
            self.outcomes["call"] += 1
        finally:
            await listener.close()

    async def _vanish(self, url: str) -> None:
        """Offer, and never be heard of again."""
        client = AiortcClient(url, direction="recvonly")
        try:
            body = await client.create_offer()
            async with (
                aiohttp.ClientSession() as session,
                session.post(url + "/webrtc/offer", json=body) as response,
            ):
                await response.read()
            self.outcomes["vanished"] += 1
        finally:
            await client.close()

    async def _fail_for_ever(self) -> None:
        faults: list[Callable[[], Awaitable[None]]] = [
            self.kill_worker, self.stop_worker, self.block_worker,
            self.kill_replica, self.kill_redis,
        ]  # fmt: skip
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(*FAULT_INTERVAL)):
                    await self._stopping.wait()
                    return
            fault = random.choice(faults)
            self.faults[fault.__name__] += 1
            try:
                await fault()
            except (AssertionError, httpx.HTTPError, psutil.Error, OSError) as error:
                print(f"        {fault.__name__}: {error!r}"[:200], flush=True)

    async def _worker_pid(self) -> int:
        status = await asyncio.to_thread(self._stack.status)
        return int(random.choice(status["workers"])["pid"])

    async def kill_worker(self) -> None:
        os.kill(await self._worker_pid(), signal.SIGKILL)

    async def stop_worker(self) -> None:
        """For so long that its lease ends and its calls are given up."""
        pid = await self._worker_pid()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        os.kill(pid, signal.SIGCONT)

    async def block_worker(self) -> None:
        listener = Listener(self._stack.replicas["a"] + "/block")
        try:
            await listener.connect(10)
            body = {"webrtc_id": listener.webrtc_id, "inputs": [8.0]}
            await asyncio.to_thread(httpx.post, listener.url + "/input_hook", json=body)
            await asyncio.sleep(9)
        finally:
            await listener.close()

    async def kill_replica(self) -> None:
        await asyncio.to_thread(self._stack.kill, "b", signal.SIGKILL)
        await asyncio.sleep(2)
        await asyncio.to_thread(self._stack.start_replica, "b")

    async def kill_redis(self) -> None:
        await asyncio.to_thread(self._stack.kill, "redis", signal.SIGKILL)
        await asyncio.sleep(random.uniform(1, 5))
        await asyncio.to_thread(self._stack.start_redis)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return process.children(recursive=True)


def _told(error: BaseException) -> str:
    text = str(error)
    for code in ("no_worker_available", "concurrency_limit_reached"):
        if code in text:
            return code
    return type(error).__name__


def held(stack: Stack) -> dict[str, object]:
    """What is held though nobody calls."""
    status = stack.status()
    slots = sum(worker["used"] + worker["reserved"] for worker in status["workers"])
    metrics = {
        name: stack.metric(name, "rayrtc_slots", state=state)
        for name in stack.replicas
        for state in ("used", "reserved")
    }
    return {"connections": len(status["connections"]), "slots": slots, **metrics}


def verdict(samples: list[Sample]) -> list[str]:
    """What has grown since a fifth of the time."""
    base, last = samples[max(0, len(samples) // 5 - 1)], samples[-1]
    grown = []
    if last.memory > base.memory * 1.1:
        grown.append(f"memory {base.memory:.0f} -> {last.memory:.0f} MiB")
    for name in ("descriptors", "threads", "keys"):
        before, after = getattr(base, name), getattr(last, name)
        if after > before + 10:
            grown.append(f"{name} {before} -> {after}")
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    stack = Stack("tests.network.app:app", workers=2, slots=32)
    stack.env["RAYRTC_RECORD_TTL"] = str(RECORD_TTL)
    try:
        stack.start()
        soak: Soak | None = None

        async def run() -> Soak:
            soak = Soak(stack, options.calls)
            await soak.run(options.minutes * 60)
            return soak

        soak = asyncio.run(run())
        stack.wait_ready()
        wait_until(lambda: not any(held(stack).values()), SETTLE_TIMEOUT, "nothing held", 1)
        time.sleep(RECORD_TTL + 5)
        print(f"everybody has hung up: {held(stack)}")
        soak.sample(options.minutes)
        grown = verdict(soak.samples)
    finally:
        stack.stop()
    print(f"NOT level: {', '.join(grown)}" if grown else "level, and nothing is held")
    raise SystemExit(1 if grown else 0)


if __name__ == "__main__":
    main()
