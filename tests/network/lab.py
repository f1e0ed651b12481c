"""A cluster with its callers while something fails, and what was promised against what was seen."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.network.callers import Caller, Callers, media
from tests.network.cluster import Cluster
from tests.network.hosts import Host

CALLS = 20
"""Live during each fault."""
GAP = 0.1
"""Seconds that a call which has nothing to do with the fault may be without a packet."""


@dataclass
class Row:
    """One bound: what was promised, what was seen."""

    fault: str
    bound: str
    seen: str
    kept: bool


class Lab:
    """The cluster, its callers, and the rows of the table."""

    def __init__(self, cluster: Cluster, outage: float) -> None:
        self.cluster = cluster
        self.callers = Callers(cluster)
        self.outage = outage
        self.fault = ""
        self.rows: list[Row] = []

    def row(self, bound: str, seen: str, kept: bool) -> None:
        self.rows.append(Row(self.fault, bound, seen, kept))
        print(f"{'ok    ' if kept else 'FAILED'}  {self.fault}: {bound}: {seen}", flush=True)

    def took(self, bound: str, limit: float, begin: float, seconds: float | None) -> None:
        """A row for something that had to happen within `limit` seconds."""
        if seconds is None:
            self.row(f"{bound} within {limit:g} s", "never", False)
        else:
            self.row(
                f"{bound} within {limit:g} s", f"{seconds - begin:.1f} s", seconds - begin <= limit
            )

    async def when(self, condition: Callable[[], Awaitable[bool]], timeout: float) -> float | None:
        """When it became true, by the monotonic clock."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if await condition():
                return time.monotonic()
            await asyncio.sleep(0.05)
        return None

    async def told(self, callers: Sequence[Caller], begin: float, limit: float) -> None:
        """Rows for the callers of what failed."""
        assert callers, "nobody is on what is to fail"

        async def all_told() -> bool:
            return all(caller.told is not None for caller in callers)

        await self.when(all_told, 3 * limit)
        times = [caller.told for caller in callers]
        last = None if None in times else max(t for t in times if t is not None)
        self.took(f"{len(callers)} callers told", limit, begin, last)
        reasons = {caller.reason for caller in callers}
        self.row(
            "the reason is worker_lost", ", ".join(sorted(reasons)), reasons == {"worker_lost"}
        )

    async def freed(self, workers: set[str], begin: float, limit: float) -> None:
        """A row for the slots of workers that are gone."""

        async def free() -> bool:
            left = {worker.worker_id for worker in await self.cluster.workers()} & workers
            held = [c for c in await self.cluster.connections() if c.worker_id in workers]
            return not left and not held

        self.took("slots free", limit, begin, await self.when(free, 3 * limit))

    async def full(self, begin: float, limit: float) -> None:
        """A row for the pool."""
        try:
            await self.cluster.whole(max(1.0, 3 * limit - (time.monotonic() - begin)))
            self.took("pool full", limit, begin, time.monotonic())
        except TimeoutError:
            self.took("pool full", limit, begin, None)

    def untouched(self, callers: Sequence[Caller], begin: float, whose: str) -> None:
        """Rows for callers who must not have noticed."""
        assert callers, f"{whose}: nobody"
        got = media(list(callers), begin)
        ended = [caller.reason for caller in callers if caller.told is not None]
        self.row(f"media of {whose}: nothing lost", str(got), got.lost == 0 and not ended)
        # what this process did not receive because it stood still itself was not late
        own = self.callers.own_lag(begin)
        seen = f"{got.gap * 1000:.0f} ms, of which {own * 1000:.0f} ms may be the callers' own"
        kept = got.gap - own <= GAP
        self.row(f"media of {whose}: no gap over {GAP * 1000:.0f} ms", seen, kept)

    async def restored(self, workers: set[str], begin: float) -> None:
        """A row for what Redis has lost."""
        callers = {caller.id for caller in self.callers.all}

        async def all_there() -> bool:
            leases = {w.worker_id for w in await self.cluster.workers()}
            ids = {c.connection_id for c in await self.cluster.connections()}
            return leases == workers and ids == callers

        back = await self.when(all_there, 20)
        self.took("leases, records and slots restored", 5, begin, back)

    def outputs_go_on(self, before: dict[str, str]) -> None:
        """A row for the event streams: no output twice, none missing without a word.

        Args:
            before: the cursor that each caller had.
        """
        callers = [caller for caller in self.callers.all if caller.id in before]
        bad = [
            f"{caller.id}: {caller.reader}"
            for caller in callers
            if not caller.reader.honest() or caller.reader.cursor == before[caller.id]
        ]
        good = len(callers) - len(bad)
        seen = f"{good} of {len(before)} streams go on, each hole announced {bad or ''}"
        self.row("outputs delivered or announced as a gap", seen, good == len(before))

    async def works_again(self, host: Host, former: set[str], begin: float) -> None:
        """A row for a node that was out of reach: it has a worker that is none of the former."""

        async def works() -> bool:
            return any(
                w.host == host.address and w.state == "ready" and w.worker_id not in former
                for w in await self.cluster.workers()
            )

        self.took("the node works again, by itself,", 30, begin, await self.when(works, 60))
        await self.cluster.whole()

    def busiest(self) -> str:
        """The worker with the most calls."""
        workers = [caller.worker for caller in self.callers.all]
        return max(set(workers), key=workers.count)


def show(rows: Sequence[Row]) -> None:
    table = Table("fault", "bound", "seen", "kept")
    fault = ""
    for row in rows:
        if row.fault != fault:
            table.add_section()
        shown = row.fault if row.fault != fault else ""
        fault = row.fault
        table.add_row(shown, row.bound, row.seen, "yes" if row.kept else "[bold red]NO[/]")
    Console(width=140).print(table)
