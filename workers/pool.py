"""How many workers the pool should have, where they go, which leave. Knows no Ray and no Redis."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from rayrtc.cluster.models import Model

QUIET_PERIOD = 60.0
"""Seconds that a worker must have been idle, and the pool too large, before it is taken away."""
BACKOFF_MAX = 30.0
"""Longest wait in seconds between two attempts to start a worker."""
LEFT_MAX = 16
"""Calls of handlers that did not return after their connection's end, with which a worker goes."""


LATE = 0.1
"""Mean lag in seconds of an event loop that is late: five audio packets."""
ROOM_WAIT = 6.0
"""Seconds without room for a worker of new code after which one of the former code is drained. A
process of Ray takes 1 s to begin, more on a machine that has much to do."""
LATE_MAX = 20.0
"""Seconds that a worker may be late before it is replaced."""


class WorkerPhase(StrEnum):
    """Where a worker is in its life; the same word in logs, status and metrics."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(frozen=True)
class PoolLimits:
    """The bounds of the pool, from the settings.

    `memory_max` is bytes, `quiet` seconds.
    """

    workers_min: int
    workers_max: int
    slots: int
    max_sessions: int
    memory_max: int
    quiet: float = QUIET_PERIOD

    @property
    def buffer(self) -> int:
        """Free slots that are kept ready: half a worker's, so that a burst finds room while the
        next worker starts; at least one."""
        return max(1, self.slots // 2)


@dataclass(frozen=True)
class PoolWorker:
    """What the plan needs to know of one worker.

    `left_behind` counts calls of handlers that outlived their connections. In seconds: `idle_for`
    without a call, `late_for` with a late event loop, `unplaced_for` without room in Ray. A `busy`
    one takes no calls, though it may have slots; a `spare` one only those that others cannot.
    """

    worker_id: str
    phase: WorkerPhase
    code_version: str
    node: str | None = None
    calls: int = 0
    sessions: int = 0
    memory: int = 0
    left_behind: int = 0
    idle_for: float = 0.0
    late_for: float = 0.0
    unplaced_for: float = 0.0
    busy: bool = False
    spare: bool = False


@dataclass(frozen=True)
class Plan:
    """What to do next: a node for each worker to start, the workers to drain and why.

    Those that are `spare` are to get calls only if no other can take them.
    """

    wanted: int
    start: tuple[str | None, ...] = ()
    drain: dict[str, str] = field(default_factory=dict)
    spare: frozenset[str] = frozenset()


class WorkerInfo(Model):
    """One worker in `PoolStatus`."""

    worker_id: str
    phase: WorkerPhase
    code_version: str
    needs: str = ""
    node: str | None = None
    calls: int = 0
    sessions: int = 0


class PoolStatus(Model):
    """What the supervisor says of its pool."""

    spec: str
    """MODULE:ATTR of the application that the workers run."""
    code_version: str
    wanted: int
    ready: int
    starting: int
    draining: int
    replaced: int
    """Workers that died or stopped answering and were replaced, so far."""
    slots: int
    """Slots of all ready workers together."""
    calls: int
    workers: tuple[WorkerInfo, ...] = ()
    error: str = ""
    """Why the last worker could not start; empty once one could."""
    failures: int = 0
    """Failed starts in a row."""

    @property
    def full(self) -> bool:
        """Whether all workers that are wanted are ready."""
        return self.wanted > 0 and self.ready >= self.wanted


def wanted_workers(calls: int, nodes: int, limits: PoolLimits, buffer: int = 0) -> int:
    """The size of a pool that carries `calls` connections on `nodes` live nodes with CPUs.

    Args:
        buffer: free slots to keep, if those are more than `limits.buffer`.
    """
    needed = math.ceil((calls + max(limits.buffer, buffer)) / limits.slots)
    return min(max(needed, limits.workers_min, nodes), limits.workers_max)


def backoff(failures: int) -> float:
    """Seconds to wait before the next start after that many failed ones in a row."""
    return 0.0 if failures == 0 else min(BACKOFF_MAX, 0.5 * 2.0 ** min(failures, 10))


def emptiest_node(nodes: Iterable[str], occupied: Iterable[str | None]) -> str | None:
    """The node with the fewest workers, None when there is no node."""
    counts = dict.fromkeys(nodes, 0)
    for node in occupied:
        if node in counts:
            counts[node] += 1
    return min(counts, key=lambda node: (counts[node], node), default=None)


def recycle_reason(worker: PoolWorker, limits: PoolLimits) -> str | None:
    """Why a worker should be drained and replaced, None when it is fit."""
    if worker.sessions >= limits.max_sessions:
        return f"served {worker.sessions} connections"
    if worker.left_behind >= LEFT_MAX:
        return f"{worker.left_behind} calls of its handlers do not return"
    if worker.memory > limits.memory_max and worker.sessions:
        return f"uses {worker.memory >> 20} MiB"
    return None


def late_reason(worker: PoolWorker, workers: Sequence[PoolWorker]) -> str | None:
    """Whether a late event loop is a reason, too: on a machine that has too much to do the next
    worker is late as well, so one has to be gone before another goes."""
    if worker.late_for <= LATE_MAX or any(w.phase is WorkerPhase.DRAINING for w in workers):
        return None
    return f"its event loop has been late for {worker.late_for:.0f} s"


def plan(
    workers: Sequence[PoolWorker],
    nodes: Sequence[str],
    limits: PoolLimits,
    code_version: str,
    oversized_for: float = 0.0,
    needed: bool = True,
    others_ready: bool = True,
    buffer: int = 0,
) -> Plan:
    """Compare the pool with what it should be.

    Workers that are worn out are drained one after the other: running calls go on there until they
    end. Those of another code version are drained once the new ones are ready, so that code that
    cannot be loaded does not end the service. Each node gets a worker, also one that joins when
    others have as many as are wanted. A worker that is too many is spared, and drained when idle.

    Args:
        nodes: live nodes with room for a worker at all.
        oversized_for: seconds since when the pool has had more workers than wanted.
        needed: whether there is a stream that these workers serve.
        others_ready: whether the workers that are needed in place of these are there.
        buffer: free slots to keep for calls that come while a worker starts.
    """
    serving = [w for w in workers if w.phase in (WorkerPhase.STARTING, WorkerPhase.READY)]
    current = [w for w in serving if w.code_version == code_version]
    former = [w for w in serving if w.code_version != code_version]
    if not needed:  # by the current code: the former's streams are served until others can
        gone = serving if others_ready else current
        return Plan(0, (), {w.worker_id: "serves no stream" for w in gone})
    drain: dict[str, str] = {}
    if all(w.phase is WorkerPhase.READY for w in current):
        for worker in current:
            if reason := recycle_reason(worker, limits) or late_reason(worker, workers):
                drain[worker.worker_id] = reason
                break
    staying = [w for w in current if w.worker_id not in drain]
    wanted = wanted_workers(_taken(staying, limits), len(nodes), limits, buffer)
    ready = sum(w.phase is WorkerPhase.READY for w in staying)
    # of several former generations as many stay as their calls need: each takes a CPU
    kept = wanted_workers(sum(w.calls for w in former), len(nodes), limits)
    spare = len(former) if ready >= wanted else max(0, len(former) - kept)
    if any(w.unplaced_for > ROOM_WAIT for w in current) and not _leaving(workers, code_version):
        spare = max(spare, 1)  # there is no room beside them: one after the other makes some
    for worker in sorted(former, key=lambda w: w.calls)[:spare]:
        drain[worker.worker_id] = f"runs code {worker.code_version!r}"
    if oversized_for >= limits.quiet:
        for worker in _superfluous(staying, len(staying) - wanted, limits.quiet):
            drain[worker.worker_id] = "idle"
    start: list[str | None] = []
    occupied = [w.node for w in workers]
    bare = len(set(nodes) - {w.node for w in staying})
    # beyond what is wanted no more than one for each bare node: some may have no room
    extra = min(bare, wanted + bare - len(staying), limits.workers_max - len(staying))
    for _ in range(max(wanted - len(staying), extra)):
        node = emptiest_node(nodes, occupied)
        start.append(node)
        occupied.append(node)
    return Plan(wanted, tuple(start), drain, _spare(staying, ready - wanted))


def _spare(staying: Sequence[PoolWorker], count: int) -> frozenset[str]:
    """The `count` ready workers that are soonest idle; those that were spare remain so."""
    ready = [w for w in staying if w.phase is WorkerPhase.READY]
    by_use = sorted(ready, key=lambda w: (not w.spare, w.calls, -w.idle_for, w.worker_id))
    return frozenset(w.worker_id for w in by_use[: max(0, count)])


def _leaving(workers: Sequence[PoolWorker], code_version: str) -> bool:
    """Whether a worker of former code is on its way out."""
    gone = (WorkerPhase.DRAINING, WorkerPhase.STOPPING)
    return any(w.phase in gone and w.code_version != code_version for w in workers)


def _taken(workers: Sequence[PoolWorker], limits: PoolLimits) -> int:
    """Slots that no new call can have."""
    return sum(max(w.calls, limits.slots) if w.busy else w.calls for w in workers)


def _superfluous(staying: Sequence[PoolWorker], count: int, quiet: float) -> list[PoolWorker]:
    """Up to `count` idle workers, from the fullest nodes first; a node's last worker stays."""
    per_node: dict[str | None, int] = {}
    for worker in staying:
        per_node[worker.node] = per_node.get(worker.node, 0) + 1
    idle = [
        w for w in staying if w.phase is WorkerPhase.READY and w.calls == 0 and w.idle_for >= quiet
    ]
    chosen: list[PoolWorker] = []
    while idle and len(chosen) < count:
        worker = max(idle, key=lambda w: (per_node[w.node], w.idle_for))
        if per_node[worker.node] <= 1:
            break
        per_node[worker.node] -= 1
        idle.remove(worker)
        chosen.append(worker)
    return chosen
