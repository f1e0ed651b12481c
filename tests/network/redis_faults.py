"""The faults of the relay's Redis; `tests.network.faults` runs them."""

import asyncio
import time

from redis.asyncio import Redis

from tests.e2e.sse import Reader
from tests.network.lab import CALLS, Lab


async def lose_redis(lab: Lab) -> None:
    """Redis killed, back empty after 30 s"""
    before = {caller.id: caller.reader.cursor for caller in lab.callers.all}
    workers = {w.worker_id for w in await lab.cluster.workers()}
    begin = time.monotonic()
    lab.cluster.kill("redis")
    await lab.cluster.ended("redis")
    await asyncio.sleep(30)
    back = time.monotonic()
    await asyncio.to_thread(lab.cluster.start_redis)

    await lab.restored(workers, back)
    await asyncio.sleep(3)
    lab.untouched(lab.callers.all, begin, "all")
    lab.outputs_go_on(before)
    newcomer = await lab.callers.call()
    lab.callers.all.append(newcomer)
    lab.row("new calls are accepted", "yes", True)


async def fail_over(lab: Lab) -> None:
    """Redis fails over to a replica that lacks the last 2 s"""
    workers = {w.worker_id for w in await lab.cluster.workers()}
    before = {caller.id: caller.reader.cursor for caller in lab.callers.all}
    standby = await asyncio.to_thread(lab.cluster.start_standby)
    standby.replicaof("NO", "ONE")
    begin = time.monotonic()
    newcomer = await lab.callers.call()  # the replica does not know it
    lab.callers.all.append(newcomer)
    await asyncio.sleep(max(0.0, begin + 2 - time.monotonic()))
    lab.cluster.kill("redis")
    await lab.cluster.ended("redis")
    await asyncio.sleep(5)
    back = time.monotonic()
    lab.cluster.fail_over()
    await lab.restored(workers, back)
    await asyncio.sleep(3)
    lab.untouched(lab.callers.all[:CALLS], begin, "all")
    lab.outputs_go_on(before)
    url = lab.cluster.replicas["a"] + "/updates"
    late = [Reader(url, caller.id, before[caller.id]) for caller in lab.callers.all[:CALLS]]
    await asyncio.sleep(3)
    good = sum(reader.honest() and bool(reader.outputs("gap")) for reader in late)
    seen = f"{good} of {CALLS} are told of the hole"
    lab.row("readers that resume from before it", seen, good == CALLS)
    for reader in late:
        await reader.close()
    lab.callers.all.append(await lab.callers.call())
    lab.row("new calls are accepted", "yes", True)
    standby.close()
    lab.cluster.kill("standby")
    await lab.cluster.ended("standby")
    lab.cluster.fail_over(back=True)
    back = time.monotonic()
    await asyncio.to_thread(lab.cluster.start_redis)
    await lab.restored(workers, back)


async def restart_redis(lab: Lab) -> None:
    """Redis killed, back at once with a snapshot 10 s old"""
    workers = {w.worker_id for w in await lab.cluster.workers()}
    before = {caller.id: caller.reader.cursor for caller in lab.callers.all}
    async with Redis.from_url(lab.cluster.redis_url) as redis:
        await redis.save()
    await asyncio.sleep(10)
    begin = time.monotonic()
    lab.cluster.kill("redis")
    await lab.cluster.ended("redis")
    await asyncio.to_thread(lab.cluster.start_redis, False)
    await lab.restored(workers, begin)
    await asyncio.sleep(5)
    lab.untouched(lab.callers.all, begin, "all")
    lab.outputs_go_on(before)
    lab.callers.all.append(await lab.callers.call())
    lab.row("new calls are accepted", "yes", True)


async def slow_redis(lab: Lab) -> None:
    """Redis stands still for 0.4 of every 0.5 s, for 30 s"""
    workers = {w.worker_id for w in await lab.cluster.workers()}
    before = {caller.id: caller.reader.cursor for caller in lab.callers.all}
    begin = time.monotonic()
    accepted: list[float] = []
    async with Redis.from_url(lab.cluster.redis_url) as redis, asyncio.TaskGroup() as tasks:

        async def hold() -> None:
            while time.monotonic() < begin + 30:
                await redis.client_pause(400)
                await asyncio.sleep(0.5)

        tasks.create_task(hold())
        for _ in range(5):
            await asyncio.sleep(4)
            called = time.monotonic()
            lab.callers.all.append(await lab.callers.call())
            accepted.append(time.monotonic() - called)
    seen = f"{len(accepted)} of 5, the slowest connected after {max(accepted):.1f} s"
    lab.row("new calls are accepted", seen, len(accepted) == 5)
    await lab.restored(workers, time.monotonic())
    lab.untouched(lab.callers.all[:CALLS], begin, "all")
    lab.outputs_go_on(before)
    gaps = sum(bool(caller.reader.outputs("gap")) for caller in lab.callers.all[:CALLS])
    lab.row("no output lost", f"{gaps} gaps", not gaps)
