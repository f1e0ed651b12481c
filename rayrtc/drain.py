"""What `rayrtc drain` does: asks workers to take no new calls, and waits until they have none."""

import asyncio
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from rayrtc.cluster.models import Drain, WorkerStatus
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.redis_url import masked
from rayrtc.settings import Settings

POLL = 0.5
"""Seconds between two looks at the workers."""
GRACE = 10.0
"""Seconds beyond the deadline for a worker to close what is left, and for Redis to come back."""
PREFIX_MIN = 4
"""Least characters of an id that stand for the whole."""


class DrainError(Exception):
    """It cannot be done; the text is for the operator."""


class Targets:
    """The workers and nodes that one argument of the command means.

    Attributes:
        ids: of the worker, or of the nodes.
        text: what they are called.
    """

    def __init__(self, workers: list[WorkerStatus], target: str | None) -> None:
        self.ids: list[str]
        if target is None:
            self.ids = sorted({worker.node for worker in workers})
            self.text = f"all {len(self.ids)} nodes"
        elif any(worker.worker_id == target for worker in workers):
            self.ids = [target]
            self.text = f"worker {target}"
        else:
            self.ids = [_node(workers, target)]
            host = next(worker.host for worker in workers if worker.node == self.ids[0])
            self.text = f"node {self.ids[0][:8]} ({host})"

    def among(self, workers: list[WorkerStatus]) -> list[WorkerStatus]:
        """Those of the workers that are meant."""
        return [w for w in workers if w.worker_id in self.ids or w.node in self.ids]


def _node(workers: list[WorkerStatus], target: str) -> str:
    """The node of this id, of an id that begins so, or at this address.

    Raises:
        DrainError: there is none, or more than one.
    """
    nodes = {
        worker.node
        for worker in workers
        if worker.host == target or (len(target) >= PREFIX_MIN and worker.node.startswith(target))
    }
    if not nodes:
        raise DrainError(f"there is no worker or node {target!r} with workers; see `rayrtc status`")
    if len(nodes) > 1:
        several = ", ".join(sorted(node[:12] for node in nodes))
        raise DrainError(f"{target!r} may be any of the nodes {several}")
    return nodes.pop()


async def drain(
    settings: Settings,
    target: str | None,
    drain: Drain,
    wait: bool,
    say: Callable[[str], None],
) -> None:
    """Drain a worker, the workers of a node, or all (None).

    Args:
        target: id of a worker; id, beginning of an id, or address of a node.
        wait: until they are gone, or have no calls.
        say: told what goes on.

    Raises:
        DrainError: there is no such target, Redis does not answer, or calls are left after the
            deadline.
    """
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    try:
        workers = await registry.workers()
        targets = Targets(workers, target)
        if not targets.ids:
            raise DrainError("there are no workers")
        await registry.drain(targets.ids, drain)
        calls = _calls(targets.among(workers))
        say(f"{targets.text} takes no new calls; {calls} are running")
        if wait:
            await _until_empty(registry, targets, drain, settings.lease_ttl, say)
    except (RedisError, OSError) as error:
        raise DrainError(f"Redis at {masked(settings.redis_url)}: {error}") from error
    finally:
        await pools.aclose()


async def _until_empty(
    registry: Registry,
    targets: Targets,
    drain: Drain,
    lease_ttl: float,
    say: Callable[[str], None],
) -> None:
    deadline = time.monotonic() + drain.seconds + GRACE
    told = -1
    trusted = 0.0  # workers come back one by one to a Redis that was away
    while True:
        calls: int | None = None
        try:
            workers = targets.among(await registry.workers())
            calls = _calls(workers)
            if await registry.settling():
                trusted = time.monotonic() + lease_ttl
        except (RedisError, OSError) as error:
            trusted = time.monotonic() + lease_ttl
            if told:
                say(f"Redis does not answer, trying on: {error}")
            told = 0
        if calls == 0 and time.monotonic() >= trusted:
            say("no calls are left")
            return
        if calls is not None and calls != told:
            say(f"{calls} calls are left")
            told = calls
        if time.monotonic() > deadline:
            raise DrainError("calls are left after the deadline")
        await asyncio.sleep(POLL)


def _calls(workers: list[WorkerStatus]) -> int:
    return sum(worker.used + worker.reserved for worker in workers)
