"""A handler that allocates without end must cost its own worker alone, not the machine."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rayrtc.cluster.models import EndReason, Lease, LiveConnection
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.memory import MemoryGuard, NodeMemory, choose

MIB = 1 << 20
WORKER = """
import faulthandler, signal, sys, time
faulthandler.register(signal.SIGUSR1, file=2)
hoard = []
def allocate_for_ever():
    while True:
        hoard.append(bytearray(8 << 20))
        time.sleep(0.005)
def be_modest():
    time.sleep(60)
print("up", flush=True)
{call}()
"""


def test_the_largest_over_the_limit_goes() -> None:
    used = {"a": 700 * MIB, "b": 900 * MIB}
    assert choose(used, 8000 * MIB, 10 * MIB, 1000 * MIB) is None
    worker_id, why = choose(used, 8000 * MIB, 6000 * MIB, 600 * MIB) or ("", "")
    assert worker_id == "b"
    assert "900 MiB" in why
    assert "600 MiB" in why
    assert choose({}, 8000 * MIB, 1 * MIB, None) is None


def test_without_a_limit_the_largest_goes_when_memory_runs_out() -> None:
    used = {"a": 1000 * MIB, "b": 4000 * MIB}
    assert choose(used, 8000 * MIB, 1300 * MIB, None) is None
    assert (choose(used, 8000 * MIB, 1100 * MIB, None) or ("",))[0] == "b"


def test_workers_that_are_small_do_not_go_for_what_others_use() -> None:
    assert choose({"a": 700 * MIB}, 8000 * MIB, 1 * MIB, None) is None


def group(root: Path, **files: str) -> NodeMemory:
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text + "\n")
    return NodeMemory(root)


def test_a_containers_memory_counts_and_its_file_cache_is_free(tmp_path: Path) -> None:
    memory = group(
        tmp_path,
        memory_max=str(100 * MIB),
        memory_current=str(90 * MIB),
        memory_stat=f"anon 1\ninactive_file {30 * MIB}\nactive_file {10 * MIB}",
    )
    assert memory.read() == (100 * MIB, 50 * MIB)


def test_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    group(
        tmp_path / "memory",
        memory_limit_in_bytes=str(100 * MIB),
        memory_usage_in_bytes=str(90 * MIB),
        memory_stat=f"total_inactive_file {MIB}\ntotal_active_file 0",
    )
    assert NodeMemory(tmp_path).read() == (100 * MIB, 11 * MIB)


@pytest.mark.parametrize("limit", ["max", str(1 << 60), "nonsense"])
def test_without_a_limited_container_the_machine_counts(tmp_path: Path, limit: str) -> None:
    stat = "inactive_file 0\nactive_file 0"
    memory = group(tmp_path, memory_max=limit, memory_current="1", memory_stat=stat)
    assert memory.read()[0] == psutil.virtual_memory().total


def spawn(call: str) -> subprocess.Popen[bytes]:
    """A process that is in `call`."""
    command = [sys.executable, "-c", WORKER.format(call=call)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


class Node:
    """Two processes with the leases of workers, each with a call, and their guard."""

    def __init__(self, settings: Settings, memory: NodeMemory | None) -> None:
        self.settings = settings
        self.pools = RedisPools(settings)
        self.registry = Registry(self.pools.commands, settings)
        self.guard = MemoryGuard("n1", self.registry, self.pools.commands, settings, memory)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start_worker(self, worker_id: str, call: str) -> None:
        process = self.processes[worker_id] = await asyncio.to_thread(spawn, call)
        lease = Lease(
            worker_id=worker_id,
            node="n1",
            host="127.0.0.1",
            address="http://127.0.0.1:1",
            slots=4,
            streams=("echo",),
            pid=process.pid,
            started=int(time.time() * 1000),
        )
        call_of = LiveConnection(connection_id=f"call-{worker_id}", session=1, stream="echo")
        await self.registry.renew(lease, [call_of])

    async def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        await self.pools.aclose()


MakeNode = Callable[..., Any]


@pytest.fixture
async def make_node(redis_url: str) -> AsyncIterator[MakeNode]:
    nodes: list[Node] = []

    async def make(memory: NodeMemory | None = None, **options: Any) -> Node:
        node = Node(Settings(redis_url=redis_url, lease_ttl=30, **options), memory)
        nodes.append(node)
        await node.start_worker("greedy", "allocate_for_ever")
        await node.start_worker("modest", "be_modest")
        return node

    yield make
    for node in nodes:
        await node.stop()


async def ended(node: Node, worker_id: str) -> bytes:
    """What a worker wrote to standard error until its end."""
    async with asyncio.timeout(20):
        while node.processes[worker_id].poll() is None:
            await asyncio.sleep(0.05)
    stream = node.processes[worker_id].stderr
    assert stream is not None
    return stream.read()


class Shrinking(NodeMemory):
    """A node of 300 MiB whose memory only its workers use."""

    workers: dict[str, subprocess.Popen[bytes]]

    def read(self) -> tuple[int, int]:
        used = 0
        for process in self.workers.values():
            if process.poll() is None:
                used += psutil.Process(process.pid).memory_info().rss
        return 300 * MIB, 300 * MIB - used


@pytest.mark.parametrize("limited", [True, False], ids=["limit", "no memory left"])
async def test_a_worker_that_allocates_without_end_is_ended(
    make_node: MakeNode, limited: bool
) -> None:
    """Its calls get a reason of their own, its stacks are written down, the other one stays."""
    memory = None if limited else Shrinking()
    node = await make_node(memory, worker_memory_limit=200 if limited else None)
    if memory is not None:
        memory.workers = node.processes
    guarding = asyncio.create_task(node.guard.run())
    stacks = await ended(node, "greedy")
    record = await node.registry.find("call-greedy")
    assert record.reason is EndReason.OUT_OF_MEMORY
    key = f"{node.settings.cluster}:{{call-greedy}}:outputs"
    end = await node.pools.commands.xrevrange(key, count=1)
    assert end[0][1]["kind"] == "end"
    assert end[0][1]["data"] == EndReason.OUT_OF_MEMORY
    assert b"allocate_for_ever" in stacks
    assert node.guard.ended == 1
    assert node.processes["modest"].poll() is None
    assert (await node.registry.find("call-modest")).reason is None
    guarding.cancel()
    await asyncio.wait([guarding])


async def test_a_foreign_process_with_the_number_of_a_worker_is_left_alone(
    make_node: MakeNode,
) -> None:
    """The worker has died, its lease is still there, its number belongs to somebody else."""
    node = await make_node(worker_memory_limit=128)
    process = node.processes["greedy"]
    (lease,) = [w for w in await node.registry.workers() if w.worker_id == "greedy"]
    stale = Lease(**{**lease.model_dump(exclude={"used", "reserved"}), "started": 1})
    await node.registry.renew(stale, [])
    guarding = asyncio.create_task(node.guard.run())
    async with asyncio.timeout(20):
        while psutil.Process(process.pid).memory_info().rss < 300 * MIB:
            await asyncio.sleep(0.05)
    assert process.poll() is None
    guarding.cancel()
    await asyncio.wait([guarding])


async def test_without_redis_the_worker_is_ended_all_the_same(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await make_node(worker_memory_limit=200)

    async def away(*arguments: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr(node.registry, "withdraw", away)
    guarding = asyncio.create_task(node.guard.run())
    await ended(node, "greedy")
    guarding.cancel()
    await asyncio.wait([guarding])
