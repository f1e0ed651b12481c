"""Keeps the pool of media workers: one detached Ray actor per cluster.

It never touches a call: when it is gone workers and calls go on, and its successor adopts them.
"""

import asyncio
import logging
import math
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Any

import ray
from ray.exceptions import RayError

from rayrtc.cluster.models import Drain, EndReason
from rayrtc.logs import configure
from rayrtc.settings import Settings
from workers.member import NAME_PREFIX, Application, Member, brief, in_thread
from workers.needs import default_needs, told
from workers.nodes import Nodes
from workers.pool import Plan, PoolLimits, PoolStatus, WorkerPhase, plan
from workers.pool_group import Group
from workers.registry_watch import RegistryWatch
from workers.worker import StartError

logger = logging.getLogger(__name__)

NAME = "supervisor"
"""Name of the actor in the namespace `Settings.cluster`."""
RECONCILE_INTERVAL = 0.5
"""Seconds between two looks at the pool."""
PING_INTERVAL = 1.0
"""Seconds between two pings of a worker."""
ADOPT_INTERVAL = 10.0
"""Seconds between two looks for workers that are not in the pool."""
UNRESPONSIVE_GRACE = 5.0
"""Seconds beyond `hang_timeout`, when a worker's own watchdog has failed too."""
STOP_GRACE = 5.0
"""Seconds beyond `stop_timeout` that a stopping worker may take."""


class Supervisor:
    """Keeps the pool at the size that `workers.pool` wants.

    Args:
        spec: MODULE:ATTR of the application.
        environment: `RAYRTC_*` variables for this actor and the workers.
        sys_path: where the application's modules are found.
        code_version: first generation of the application's code.
    """

    def __init__(
        self, spec: str, environment: dict[str, str], sys_path: list[str], code_version: str
    ) -> None:
        os.environ.update(environment)
        self._settings = settings = Settings()
        configure(settings, service="supervisor")
        self._application = Application(spec, environment, sys_path)
        self._code_version = code_version
        self._limits = PoolLimits(
            workers_min=settings.workers_min,
            workers_max=settings.workers_max,
            slots=settings.slots,
            max_sessions=settings.worker_max_sessions,
            memory_max=settings.worker_memory_max << 20,
        )
        self._members: dict[str, Member] = {}
        default = default_needs(settings)
        self._groups = {default: Group(default)}
        self._nodes = Nodes()
        self._adopted = -math.inf
        self._replaced = 0
        self._youngest = 0
        self._ray_away = False
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._registry = RegistryWatch(settings, self._nodes)
        loop = asyncio.get_running_loop()
        self._loops = [
            loop.create_task(self._keep_pool(), name="pool"),
            loop.create_task(self._registry.run(), name="registry"),
        ]

    # What the services ask for

    async def status(self) -> PoolStatus:
        """The pool as it is."""
        phases = [member.phase for member in self._members.values()]
        current = [
            m
            for m in self._members.values()
            if m.phase is WorkerPhase.READY and m.code_version == self._code_version
        ]
        return PoolStatus(
            spec=self._application.spec,
            code_version=self._code_version,
            wanted=sum(group.wanted for group in self._groups.values()),
            ready=len(current),
            starting=phases.count(WorkerPhase.STARTING),
            draining=phases.count(WorkerPhase.DRAINING),
            replaced=self._replaced,
            slots=len(current) * self._settings.slots,
            calls=sum(member.calls for member in self._members.values()),
            workers=tuple(member.info() for member in self._members.values()),
            error=next((g.error for g in self._groups.values() if g.error), ""),
            failures=max(group.failures for group in self._groups.values()),
        )

    async def reload(self, code_version: str) -> None:
        """Start a new generation of workers; the old ones are drained once it is ready.

        Calls of the old generation are ended `drain_timeout` seconds after that.
        """
        logger.info("reloading: code %s -> %s", self._code_version, code_version)
        self._code_version = code_version
        for group in self._groups.values():
            group.succeeded()
        for member in list(self._members.values()):
            if member.phase is WorkerPhase.STARTING:
                self._own(self._stop(member, "overtaken by a reload"))

    async def leave(self, node: str) -> int:
        """Stop all workers of a node and start none there.

        Returns the number of other nodes that have workers or could have some, also when they
        drain: their calls go on.
        """
        self._nodes.leaving.add(node)
        here = [m for m in self._members.values() if m.node == node]
        logger.info("node %s leaves with %d workers", node, len(here))
        await asyncio.gather(*(self._stop(member, "its node leaves") for member in here))
        await self._nodes.look(self._groups, at_once=True)
        others = self._nodes.ids
        others |= {member.node for member in self._members.values() if member.node is not None}
        return len(others - {node})

    async def drain(self, node: str, seconds: float) -> int:
        """Have the workers of a node take no more calls, when Redis cannot tell them.

        Returns how many of them may have calls yet: they are asked again with each request.
        """
        self._nodes.cordoned.add(node)
        here = [member for member in self._members.values() if member.node == node]
        for member in here:
            if member.phase is WorkerPhase.READY:
                member.empty_by = time.monotonic() + seconds
                self._own(self._drain(member, "its node drains"))
        return sum(member.accepting or member.calls > 0 for member in here)

    async def join(self, node: str) -> None:
        """A service has been started on a node, which may have left or been drained before."""
        self._nodes.join(node)

    async def shutdown(self) -> None:
        """Stop all workers in parallel. The caller then ends this actor."""
        self._stopping = True
        await asyncio.gather(*(self._stop(m, "shutdown") for m in list(self._members.values())))
        for task in (*self._loops, *self._tasks):
            task.cancel()
        await self._registry.aclose()

    # The pool

    async def _keep_pool(self) -> None:
        while True:
            try:
                for member in list(self._members.values()):
                    self._check(member, time.monotonic())
                await self._nodes.look(self._groups)
                if self._adopted == -math.inf:
                    await self._registry.recall_drains()
                # before anything is started: those count
                if time.monotonic() - self._adopted >= ADOPT_INTERVAL:
                    await self._adopt()
                    self._adopted = time.monotonic()
                self._reconcile()
                if self._ray_away:
                    logger.info("Ray's head is back")
                self._ray_away = False
            except (RayError, TimeoutError) as error:
                # what runs goes on running; nothing can be started or looked up
                if not self._ray_away:
                    logger.warning("Ray's head is away: %s", brief(error))
                self._ray_away = True
            except Exception:
                logger.exception("looking after the pool failed")
            await asyncio.sleep(RECONCILE_INTERVAL)

    async def _adopt(self) -> None:
        """Take over workers that a former supervisor left, or that were created too late."""
        # without True they would be those of the namespace of the driver that made this actor
        for actor in await in_thread(ray.util.list_named_actors, True):
            worker_id = actor["name"].removeprefix(NAME_PREFIX)
            if (
                actor["namespace"] != self._settings.cluster
                or not actor["name"].startswith(NAME_PREFIX)
                or worker_id in self._members
            ):
                continue
            member = Member(worker_id, self._code_version, default_needs(self._settings))
            try:
                await member.find(self._settings.cluster)
            except (ValueError, RayError):
                continue  # it has ended in between
            self._members[member.worker_id] = member
            self._own(self._tend(member, adopted=True))

    def _reconcile(self) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        for group in list(self._groups.values()):
            current = self._plan(group, now)
            for worker_id, reason in current.drain.items():
                self._own(self._drain(self._members[worker_id], reason))
            for member in self._members_of(group):
                if member.spare is not (member.worker_id in current.spare):
                    self._own(member.leave_to_others(not member.spare, PING_INTERVAL))
            # with no open node Ray would take one that drains
            closed = self._nodes.fitting(group.needs) and not self._nodes.open(group.needs)
            if now >= group.next_start and not closed:
                for node in current.start:
                    self._start(group, node)

    def _members_of(self, group: Group) -> list[Member]:
        """The workers of a pool, but for those of nodes that leave."""
        return [
            member
            for member in self._members.values()
            if member.needs == group.needs and member.node not in self._nodes.leaving
        ]

    def _plan(self, group: Group, now: float) -> Plan:
        members = self._members_of(group)
        views = [member.view(now) for member in members]
        arrived = sum(member.take_arrived() for member in members)
        group.demand.observe(arrived, sum(view.calls for view in views), now)
        current = plan(
            views,
            self._nodes.with_room(group.needs, now),
            self._limits,
            self._code_version,
            group.oversized_for(now),
            group.serves,
            all(other.full for other in self._groups.values() if other.serves),
            group.demand.buffer,
        )
        serving = sum(v.phase in (WorkerPhase.STARTING, WorkerPhase.READY) for v in views)
        ready = sum(
            v.phase is WorkerPhase.READY and v.code_version == self._code_version for v in views
        )
        group.planned(current.wanted, serving, ready, now)
        return current

    def _learn_groups(self, member: Member) -> None:
        """The application says what its streams need; any worker of the current code tells."""
        if member.report is None:
            return
        if member.needs not in self._groups:  # of former code, as far as is known
            self._groups[member.needs] = Group(member.needs, serves=False)
        if member.code_version != self._code_version:
            return
        for needs in member.report.pools:
            if needs not in self._groups:
                logger.info("streams need workers with %s", told(needs))
                self._groups[needs] = Group(needs)
        for needs, group in self._groups.items():
            group.serves = needs in member.report.pools

    def _start(self, group: Group, node: str | None) -> None:
        member = Member(secrets.token_hex(4), self._code_version, group.needs, node)
        self._members[member.worker_id] = member
        self._own(self._tend(member, adopted=False))

    async def _tend(self, member: Member, adopted: bool) -> None:
        """A worker's life: started or adopted, watched, and taken off the list at its end."""
        try:
            if not adopted:
                await member.create(self._application, self._settings)
            if member.phase is WorkerPhase.STOPPING:
                raise StartError("it was stopped meanwhile")
            await self._place(member, adopted)
            lease = await member.start(self._settings.worker_start_timeout)
        except (StartError, RayError, TimeoutError) as error:
            await self._start_failed(member, error, adopted)
            return
        took = time.monotonic() - member.created
        if member.phase is WorkerPhase.STARTING:
            member.move(WorkerPhase.READY, "adopted" if adopted else f"in {took:.2f} s")
            if member.code_version == self._code_version:
                self._group_of(member).succeeded(None if adopted else took)
        if adopted and lease.started > self._youngest:
            self._youngest = lease.started
            self._code_version = lease.code_version  # there may have been a reload since
        await member.ping(PING_INTERVAL)
        self._learn_groups(member)
        died = await member.watch()
        await self._ended(member, died)

    async def _place(self, member: Member, adopted: bool) -> None:
        """Wait for Ray to find a node, which need not be the one that the worker was meant for."""
        meant = member.node
        member.node = node = await member.placed(self._settings.worker_start_timeout)
        if adopted:
            return
        if meant not in (None, node):
            self._nodes.no_room(meant, member.needs, time.monotonic())
        if node in self._nodes.cordoned:
            raise StartError("Ray has room on nodes that drain only")

    async def _start_failed(self, member: Member, error: Exception, adopted: bool) -> None:
        self._members.pop(member.worker_id, None)
        if adopted:
            logger.warning("worker %s cannot be taken over: %s", member.worker_id, error)
        elif member.phase is WorkerPhase.STARTING and not self._stopping:
            told = str(error) or brief(error)
            wait = self._group_of(member).failed(told, time.monotonic())
            logger.error(
                "worker %s could not start, trying again in %.1f s: %s",
                member.worker_id,
                wait,
                told,
            )
        await member.kill()

    async def _ended(self, member: Member, died: str) -> None:
        self._members.pop(member.worker_id, None)
        stopped = member.phase is WorkerPhase.STOPPING
        self._nodes.freed(member.node)
        if not stopped:
            self._replaced += 1
            logger.error("worker %s died with %d calls: %s", member.worker_id, member.calls, died)
        reason = EndReason.WORKER_STOPPED if stopped else EndReason.WORKER_LOST
        await self._registry.gone(member.worker_id, reason)

    def _check(self, member: Member, now: float) -> None:
        """Ping a worker; end one that is silent, or drained and empty."""
        if member.phase not in (WorkerPhase.READY, WorkerPhase.DRAINING):
            return
        idle = member.pinging is None or member.pinging.done()
        if idle and now - member.answered >= PING_INTERVAL:
            member.pinging = self._own(self._ping(member))
        silent = now - member.answered
        if silent > self._settings.hang_timeout + UNRESPONSIVE_GRACE:
            # one whose lease is alive is cut off from here only: its calls are well
            if member.worker_id not in (self._registry.leases or ()):
                logger.error("worker %s has not answered for %.0f s", member.worker_id, silent)
                member.answered = now
                self._own(member.kill())
        elif member.phase is WorkerPhase.DRAINING and member.report is not None:
            drained = not member.accepting and member.calls == 0
            if drained or now >= member.empty_by + STOP_GRACE:
                self._own(self._stop(member, "drained" if drained else "its time is over"))

    async def _ping(self, member: Member) -> None:
        await member.ping(self._settings.hang_timeout)
        self._learn_groups(member)
        if member.phase is WorkerPhase.DRAINING and member.accepting:
            await self._ask_to_drain(member)  # the first request was lost
        elif member.phase is WorkerPhase.READY and not member.accepting:
            member.move(WorkerPhase.DRAINING, "was asked to")

    async def _drain(self, member: Member, reason: str) -> None:
        """Let a worker's calls end. Those of former code have a deadline, others have time."""
        if member.code_version != self._code_version:
            member.empty_by = time.monotonic() + self._settings.drain_timeout
        member.move(WorkerPhase.DRAINING, reason)
        await self._ask_to_drain(member)

    async def _ask_to_drain(self, member: Member) -> None:
        drain = Drain(seconds=max(0.0, member.empty_by - time.monotonic()))
        await member.drain(drain, self._settings.hang_timeout)

    async def _stop(self, member: Member, why: str) -> None:
        if member.phase is WorkerPhase.STOPPING:
            return
        starting = member.phase is WorkerPhase.STARTING
        member.move(WorkerPhase.STOPPING, why)
        if starting:
            await member.kill()
            return
        timeout = self._settings.stop_timeout
        await member.stop(EndReason.WORKER_STOPPED, timeout, timeout + STOP_GRACE)

    def _group_of(self, member: Member) -> Group:
        return self._groups.setdefault(member.needs, Group(member.needs))

    def _own(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the supervisor failed", exc_info=error)
