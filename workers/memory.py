"""Ends a worker of this node that uses too much memory, before the machine suffers.

A handler can allocate gigabytes in a second, and hold the GIL meanwhile: so the watch is kept from
outside of the worker, by the service of its node.
"""

import asyncio
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psutil
from redis.asyncio import Redis

from rayrtc.cluster.models import EndReason, WorkerStatus
from rayrtc.cluster.outputs import append_lost
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings
from workers.kernel_file import KernelFile
from workers.load import CGROUP

logger = logging.getLogger(__name__)

RESERVE = 0.15
"""Share of the memory that is kept free: what is allocated between two looks must fit into it."""
SUSPECT = 0.10
"""Share of the memory below which a worker is not what fills it."""
INTERVAL = 0.1
"""Seconds between two looks at the memory."""
HURRY = 0.02
"""Seconds between two looks while less than twice the reserve is free, or a worker is at half of
its limit."""
WITHDRAW_TIMEOUT = 1.0
"""Seconds for Redis to be told why the calls end."""
END_TIMEOUT = 2.0
"""Seconds for the memory of a killed process to be free again."""

PROC = Path("/proc")
STACKS_SIGNAL = signal.SIGUSR1
"""On it a worker writes the stacks of all its threads to standard error."""


PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes."""

_CACHED = (b"inactive_file", b"active_file")
_TOTAL = re.compile(rb"^MemTotal: +(\d+) kB", re.MULTILINE)
_AVAILABLE = re.compile(rb"^MemAvailable: +(\d+) kB", re.MULTILINE)
_FILES = [re.compile(rb"^%s (\d+)" % name, re.MULTILINE) for name in _CACHED]
_FILES_V1 = [re.compile(rb"^total_%s (\d+)" % name, re.MULTILINE) for name in _CACHED]


class NodeMemory:
    """The memory of the control group this process is in (cgroup v2, else v1), and the machine's.

    Files that the kernel keeps in memory count as free: it drops them when there is need.
    """

    def __init__(self, root: Path = CGROUP) -> None:
        names = ("memory.max", "memory.current", "memory.stat")
        self._files = _FILES
        if not (root / names[0]).exists():
            root, self._files = root / "memory", _FILES_V1
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
        self._limit, self._used, self._stat = (KernelFile(root / name) for name in names)
        self._machine = KernelFile(PROC / "meminfo")

    def read(self) -> tuple[int, int]:
        """Bytes in total and bytes available: those of the group, if it is limited and fuller."""
        total, available = self._of_machine()
        group = self._of_group()
        if group is not None and group[0] < total:
            return group[0], min(group[1], available)
        return total, available

    def _of_machine(self) -> tuple[int, int]:
        try:
            told = self._machine.read()
            return _number(_TOTAL, told) << 10, _number(_AVAILABLE, told) << 10
        except (OSError, ValueError):  # no Linux, or a very old one
            memory = psutil.virtual_memory()
            return int(memory.total), int(memory.available)

    def _of_group(self) -> tuple[int, int] | None:
        try:
            limit = self._limit.read()
            if limit.startswith(b"max"):
                return None
            used, stat = int(self._used.read()), self._stat.read()
            files = sum(_number(pattern, stat) for pattern in self._files)
            return int(limit), max(0, int(limit) - used + files)
        except (OSError, ValueError):
            return None


def _number(pattern: re.Pattern[bytes], told: bytes) -> int:
    """The number of the line that the pattern is of.

    Raises:
        ValueError: there is no such line.
    """
    if (found := pattern.search(told)) is None:
        raise ValueError(f"no {pattern.pattern!r}")
    return int(found[1])


class WorkerMemory:
    """The memory of one worker's process."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self._pages = KernelFile(PROC / str(process.pid) / "statm")

    def read(self) -> int:
        """Bytes that it has to itself.

        Raises:
            psutil.Error: the process has ended.
        """
        told = self._pages.read_or_none()
        if told:
            resident, shared = told.split(None, 3)[1:3]
            return (int(resident) - int(shared)) * PAGE
        memory = self.process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))


def choose(
    used: Mapping[str, int], total: int, available: int, limit: int | None
) -> tuple[str, str] | None:
    """The worker that must go and why, None when all may stay.

    Args:
        used: bytes of each worker.
        total, available: of the node, bytes.
        limit: bytes that a worker may use; None for as much as there is.
    """
    worker_id = max(used, key=lambda worker: used[worker], default=None)
    if worker_id is None:
        return None
    size = used[worker_id]
    if limit is not None:
        if size > limit:
            return worker_id, f"uses {size >> 20} MiB, its limit is {limit >> 20} MiB"
    elif available < RESERVE * total and size > SUSPECT * total:
        free = f"{available >> 20} of {total >> 20} MiB are left"
        return worker_id, f"uses {size >> 20} MiB, the most of all, and {free}"
    return None


class MemoryGuard:
    """Watches the workers of one node.

    With `Settings.worker_memory_limit` a worker above it is ended. Without, memory is only taken
    from a worker when the machine or container runs out of it: from the one that uses the most.
    What a worker shares with other processes, such as Ray's object store, does not count.
    """

    def __init__(
        self,
        node_id: str,
        registry: Registry,
        redis: Redis,
        settings: Settings,
        memory: NodeMemory | None = None,
    ) -> None:
        self._node_id = node_id
        self._registry = registry
        self._redis = redis
        self._settings = settings
        self._memory = memory or NodeMemory()
        limit = settings.worker_memory_limit
        self._limit = None if limit is None else limit << 20
        self._workers: dict[str, WorkerMemory] = {}
        self.ended = 0
        """Workers ended so far."""

    async def run(self) -> None:
        """Watch, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._look_up_workers), name="leases")
            tasks.create_task(self._repeat(self._look), name="memory")

    async def _repeat(self, look: Callable[[], Awaitable[float]]) -> None:
        while True:
            try:
                wait = await look()
            except Exception:
                logger.exception("watching the memory failed")
                wait = self._settings.lease_interval
            await asyncio.sleep(wait)

    async def _look_up_workers(self) -> float:
        """Learn of new workers; seconds until the next look."""
        try:
            for worker in await self._registry.workers():
                known = worker.node != self._node_id or worker.worker_id in self._workers
                if not known and (process := _process(worker)) is not None:
                    self._workers[worker.worker_id] = WorkerMemory(process)
        except UNREACHABLE:
            pass  # those that are known are watched on
        return self._settings.lease_interval

    async def _look(self) -> float:
        """Look once, and end a worker if need be; seconds until the next look."""
        used = self._used()
        total, available = self._memory.read()
        if (found := choose(used, total, available, self._limit)) is not None:
            await self._end(*found)
            return 0.0
        if self._limit is not None:
            near = max(used.values(), default=0) > self._limit / 2
        else:
            near = available < 2 * RESERVE * total
        return HURRY if near else INTERVAL

    def _used(self) -> dict[str, int]:
        used: dict[str, int] = {}
        for worker_id, memory in list(self._workers.items()):
            try:
                used[worker_id] = memory.read()
            except psutil.Error:
                del self._workers[worker_id]
        return used

    async def _end(self, worker_id: str, why: str) -> None:
        """Stop a worker where it is, tell the readers of its calls, then end it."""
        process = self._workers.pop(worker_id).process
        self.ended += 1
        connections: list[str] = []
        try:
            process.send_signal(STACKS_SIGNAL)
            await asyncio.sleep(HURRY)
            process.suspend()  # nothing more is allocated while Redis is told
            try:
                async with asyncio.timeout(WITHDRAW_TIMEOUT):
                    records = await self._registry.withdraw(worker_id, EndReason.OUT_OF_MEMORY)
                    connections = [record.connection_id for record in records]
                    await append_lost(self._redis, self._settings, records)
            except UNREACHABLE as error:
                logger.warning("the reason is not told, Redis is away: %s", error)
            finally:
                process.kill()
        except psutil.NoSuchProcess:
            pass  # it has ended in between
        logger.error(
            "worker %s was ended: it %s",
            worker_id,
            why,
            extra={"worker_id": worker_id, "connections": connections},
        )
        await asyncio.to_thread(psutil.wait_procs, [process], END_TIMEOUT)


def _process(worker: WorkerStatus) -> psutil.Process | None:
    """The process of a worker, unless its number belongs to another one by now."""
    try:
        process = psutil.Process(worker.pid)
        if process.pid != os.getpid() and process.create_time() * 1000 <= worker.started + 1000:
            return process
    except psutil.Error:
        pass
    return None
