"""One worker as the supervisor holds it: the actor's handle, its phase and the calls to it."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayrtc.cluster.models import Drain, EndReason, Lease, WorkerState
from rayrtc.settings import Settings
from workers.needs import Needs, actor_options, told
from workers.pool import LATE, PoolWorker, WorkerInfo, WorkerPhase
from workers.worker import MediaWorker, StartError, WorkerReport

logger = logging.getLogger(__name__)

NAME_PREFIX = "worker-"
"""Worker actors are named `worker-ID`."""
RAY_CALL_TIMEOUT = 5.0
"""Seconds for a call to Ray's control service: looking up, creating or killing an actor."""
CONCURRENCY = 100
"""Calls to one worker at a time; more than ever come from one supervisor."""


@dataclass(frozen=True)
class Application:
    """What the workers run: the arguments of every `MediaWorker`."""

    spec: str
    environment: dict[str, str] = field(repr=False)
    sys_path: list[str]


class Member:
    """A worker of the pool."""

    def __init__(
        self, worker_id: str, code_version: str, needs: Needs, node: str | None = None
    ) -> None:
        self.worker_id = worker_id
        self.needs = needs
        self.code_version = code_version
        self.node = node
        self.phase = WorkerPhase.STARTING
        self.created = time.monotonic()
        self.answered = self.created
        """When it last answered a ping."""
        self.busy = self.created
        """When it last was seen with a call, or became ready."""
        self._arrived = 0
        self.late_since = math.inf
        """Since when its event loop has been late."""
        self.empty_by = math.inf
        """When a draining worker has to be empty; one that is not soon after is stopped."""
        self.spare = False
        """Whether it leaves calls to others, by its last ping or what it was told since."""
        self.report: WorkerReport | None = None
        self.pinging: asyncio.Task[None] | None = None
        self._placed = False
        self._actor: Any = None

    @property
    def calls(self) -> int:
        """Connections at the last ping."""
        return self.report.calls if self.report else 0

    @property
    def accepting(self) -> bool:
        """Whether it took new connections at the last ping."""
        return self.report is None or self.report.lease.state is not WorkerState.DRAINING

    def view(self, now: float) -> PoolWorker:
        """What the plan needs to know."""
        return PoolWorker(
            worker_id=self.worker_id,
            phase=self.phase,
            code_version=self.code_version,
            node=self.node,
            calls=self.calls,
            sessions=self.report.sessions if self.report else 0,
            memory=self.report.lease.memory if self.report else 0,
            left_behind=self.report.left_behind if self.report else 0,
            idle_for=max(0.0, now - self.busy),
            unplaced_for=0.0 if self._placed else now - self.created,
            late_for=max(0.0, now - self.late_since),
            busy=self.report is not None and self.report.lease.state is WorkerState.BUSY,
            spare=self.spare,
        )

    def info(self) -> WorkerInfo:
        """What the status shows."""
        return WorkerInfo(
            worker_id=self.worker_id,
            phase=self.phase,
            code_version=self.code_version,
            needs=told(self.needs),
            node=self.node,
            calls=self.calls,
            sessions=self.report.sessions if self.report else 0,
        )

    def move(self, phase: WorkerPhase, why: str = "") -> None:
        """The one place where the phase changes."""
        if phase is not self.phase:
            logger.info(
                "worker %s: %s -> %s%s",
                self.worker_id,
                self.phase,
                phase,
                f" ({why})" if why else "",
            )
            self.phase = phase

    async def create(self, application: Application, settings: Settings) -> None:
        """Ask Ray for the actor: on its node if that has room, else on any."""

        def create() -> Any:
            placement: Any = "DEFAULT"
            if self.node is not None:
                placement = NodeAffinitySchedulingStrategy(self.node, soft=True)
            actor_class: Any = ray.remote(MediaWorker)
            return actor_class.options(
                name=NAME_PREFIX + self.worker_id,
                namespace=settings.cluster,
                lifetime="detached",
                max_restarts=0,
                max_concurrency=CONCURRENCY,
                scheduling_strategy=placement,
                **actor_options(self.needs),
            ).remote(
                application.spec,
                application.environment,
                application.sys_path,
                self.worker_id,
                self.code_version,
                self.needs,
            )

        self._actor = await in_thread(create)

    async def find(self, namespace: str) -> None:
        """Take over the running actor of this name.

        Raises:
            ValueError: there is none.
        """
        self._actor = await in_thread(ray.get_actor, NAME_PREFIX + self.worker_id, namespace)

    async def placed(self, timeout: float) -> str:
        """Wait until Ray has given the worker a process. Returns the node.

        Raises:
            StartError: it has not within `timeout` seconds.
        """
        room = f"Ray had no room for a worker ({told(self.needs)}) within {timeout:g} s"
        node: str = await self._starting(self._actor.placed, timeout, room)
        self._placed = True
        return node

    async def start(self, timeout: float) -> Lease:
        """Wait until the worker serves.

        Raises:
            StartError: it cannot, or not within `timeout` seconds.
        """
        late = f"the worker was not ready after {timeout:g} s"
        lease: Lease = await self._starting(self._actor.start, timeout, late)
        self.node = lease.node
        self.code_version = lease.code_version
        self.answered = self.busy = time.monotonic()
        return lease

    async def _starting(self, method: Any, timeout: float, late: str) -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await method.remote()
        except TimeoutError:
            raise StartError(late) from None
        except RayTaskError as error:
            cause = getattr(error, "cause", error)
            raise StartError(str(cause)) from None
        except RayError as error:
            raise StartError(f"the worker died while it started: {brief(error)}") from None

    def take_arrived(self) -> int:
        """How many calls have come since this was last asked for, by its pings."""
        arrived, self._arrived = self._arrived, 0
        return arrived

    async def watch(self) -> str:
        """Returns when the worker's process is dead, with what Ray says of it."""
        while True:
            try:
                await self._actor.watch.remote()
            except ray.exceptions.ActorUnavailableError:
                await asyncio.sleep(0.5)  # a broken connection to it; Ray will say when it is dead
            except RayError as error:
                return brief(error)

    async def ping(self, timeout: float) -> bool:
        """Ask the worker's event loop how it is. Returns whether it answered within `timeout`."""
        before = self.report.sessions if self.report else 0
        known = self.report is not None
        try:
            async with asyncio.timeout(timeout):
                self.report = await self._actor.ping.remote()
        except (TimeoutError, RayError):
            return False
        if known:  # one that was taken over has had calls that did not come just now
            self._arrived += max(0, self.report.sessions - before)
        self.needs = self.report.needs
        self.spare = self.report.lease.spare  # a former supervisor may have told it, or nobody
        self.answered = time.monotonic()
        if self.calls:
            self.busy = self.answered
        late = self.report.lease.lag > LATE
        self.late_since = min(self.late_since, self.answered) if late else math.inf
        return True

    async def leave_to_others(self, spare: bool, timeout: float) -> None:
        """Have it get calls only if no other worker can take them, or like all others again."""
        self.spare = spare
        try:
            async with asyncio.timeout(timeout):
                await self._actor.leave_to_others.remote(spare)
        except (TimeoutError, RayError, AttributeError) as error:  # the last: it is of older code
            logger.info("worker %s is not told of its use: %s", self.worker_id, brief(error))

    async def drain(self, drain: Drain, timeout: float) -> None:
        """Have it take no new connections and end those that it has in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._actor.drain.remote(drain)
        except (TimeoutError, RayError) as error:
            logger.warning("worker %s does not drain: %s", self.worker_id, brief(error))

    async def stop(self, reason: EndReason, timeout: float, deadline: float) -> None:
        """Close its connections within `timeout` seconds, then end its process.

        After `deadline` seconds without an answer the process is ended in any case.
        """
        if self._actor is None:
            return
        try:
            async with asyncio.timeout(deadline):
                await self._actor.stop.remote(reason, timeout)
        except (TimeoutError, RayError) as error:
            logger.warning("worker %s does not stop, ending it: %s", self.worker_id, brief(error))
        await self.kill()

    async def kill(self) -> None:
        """End its process at once."""
        if self._actor is None:
            return
        try:
            await in_thread(ray.kill, self._actor)
        except (RayError, ValueError, TimeoutError) as error:
            logger.warning("worker %s cannot be ended: %s", self.worker_id, brief(error))


async def in_thread(function: Any, *args: Any) -> Any:
    """Call a blocking function of Ray; the event loop must go on while Ray's head is away.

    Raises:
        TimeoutError: no answer in `RAY_CALL_TIMEOUT` seconds.
    """
    async with asyncio.timeout(RAY_CALL_TIMEOUT):
        return await asyncio.to_thread(function, *args)


def brief(error: BaseException) -> str:
    """The telling part of an error of Ray, in one line."""
    if isinstance(error, GetTimeoutError | TimeoutError):
        return "no answer"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "exit detail" in line or "Error:" in line]
    return (told[-1] if told else lines[0] if lines else type(error).__name__)[:500]
