"""What callers notice of each fault, as a table: `python -m tests.network.faults [FAULT ...]`.

A cluster of three hosts in network namespaces, 20 calls from a fourth. Every fault is run while all
of them are live. The exit status is 1 when a bound is not kept. Needs root on Linux.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import psutil

from tests.e2e.packets import Listener
from tests.e2e.sse import Reader
from tests.network.callers import media
from tests.network.cluster import HOSTS, NODES, Cluster, process_of
from tests.network.hosts import Network, unusable
from tests.network.lab import CALLS, Lab, Row, show
from tests.network.redis_faults import fail_over, lose_redis, restart_redis, slow_redis


async def kill_worker(lab: Lab) -> None:
    """SIGKILL worker"""
    victim = lab.busiest()
    pid = next(w.pid for w in await lab.cluster.workers() if w.worker_id == victim)
    lost = lab.callers.of(victim)
    kept = [caller for caller in lab.callers.all if caller not in lost]
    begin = time.monotonic()
    psutil.Process(pid).kill()
    await lab.told(lost, begin, 3)
    await lab.freed({victim}, begin, 5)
    await lab.full(begin, 10)
    lab.untouched(kept, begin, "the others")


async def block_loop(lab: Lab) -> None:
    """Worker's loop blocked for ever"""
    blocker = lab.callers
    url = lab.cluster.replicas["a"]
    listener = Listener(url + "/block", loopback=False)
    await listener.connect(20)
    where = {c.connection_id: c.worker_id for c in await lab.cluster.connections()}
    victim = where[listener.webrtc_id]
    lost = blocker.of(victim)
    kept = [caller for caller in blocker.all if caller not in lost]
    host = next(w.host for w in await lab.cluster.workers() if w.worker_id == victim)
    node = next(n for n in NODES if lab.cluster.network[n].address == host)
    begin = time.monotonic()
    body = {"webrtc_id": listener.webrtc_id, "inputs": [3600.0]}
    await asyncio.to_thread(httpx.post, url + "/block/input_hook", json=body)
    await lab.told(lost, begin, 15)
    await lab.freed({victim}, begin, 15)
    await lab.full(begin, 15)

    async def logged() -> bool:
        return "time.sleep(seconds)" in lab.cluster.log(node)

    at = await lab.when(logged, 5)
    lab.row("the stack is in the log", "yes" if at else "no", at is not None)
    lab.untouched(kept, begin, "the others")
    await listener.close()


async def kill_node(lab: Lab) -> None:
    """SIGKILL node"""
    host = lab.cluster.network["two"]
    lost = [c for c in lab.callers.all if c.host == host.address]
    kept = [c for c in lab.callers.all if c.host != host.address]
    workers = {w.worker_id for w in await lab.cluster.workers() if w.host == host.address}
    begin = time.monotonic()
    host.kill()
    await lab.told(lost, begin, 10)
    await lab.freed(workers, begin, 10)
    lab.untouched(kept, begin, "the other node")
    await lab.cluster.ended("two")
    again = time.monotonic()
    lab.cluster.start_workers("two")
    await lab.full(again, 30)


async def cut_link(lab: Lab) -> None:
    """Link of a node cut for 30 s"""
    host = lab.cluster.network["two"]
    lost = [c for c in lab.callers.all if c.host == host.address]
    kept = [c for c in lab.callers.all if c.host != host.address]
    workers = {w.worker_id for w in await lab.cluster.workers() if w.host == host.address}
    begin = time.monotonic()
    host.unplug()
    await lab.told(lost, begin, 10)
    await lab.freed(workers, begin, 10)
    await asyncio.sleep(max(0.0, begin + 30 - time.monotonic()))
    lab.untouched(kept, begin, "the other node")
    again = time.monotonic()
    host.plug_in()
    await lab.works_again(host, workers, again)


async def partition(lab: Lab) -> None:
    """Node cut off from the head for 20 s, callers still reach it"""
    host = lab.cluster.network["two"]
    lost = [c for c in lab.callers.all if c.host == host.address]
    kept = [c for c in lab.callers.all if c.host != host.address]
    workers = {w.worker_id for w in await lab.cluster.workers() if w.host == host.address}
    begin = time.monotonic()
    with host.cut_off_from(lab.cluster.network["head"].address):
        await lab.told(lost, begin, 10)
        await lab.freed(workers, begin, 10)
        await asyncio.sleep(max(0.0, begin + 20 - time.monotonic()))
        got = media(lost, begin)
        lab.row("their media goes on meanwhile", str(got), got.lost == 0 and got.gap < 1)
        lab.untouched(kept, begin, "the other node")
    again = time.monotonic()
    await lab.works_again(host, workers, again)


async def kill_replica(lab: Lab) -> None:
    """SIGKILL control-plane replica"""
    lost = [caller for caller in lab.callers.all if caller.replica == "b"]
    assert lost, "nobody reads at the replica"
    begin = time.monotonic()
    lab.cluster.kill("b")
    await lab.cluster.ended("b")
    await asyncio.sleep(1)
    url = lab.cluster.replicas["a"] + "/updates"
    again = [Reader(url, caller.id, caller.reader.cursor) for caller in lost]
    await asyncio.sleep(3)
    whole = 0
    for caller, reader in zip(lost, again, strict=True):
        numbers = [int(e.data) for e in caller.reader.outputs() + reader.outputs()]
        whole += numbers == list(range(numbers[0], numbers[0] + len(numbers))) and bool(
            reader.outputs()
        )
    seen = f"{whole} of {len(lost)} streams resumed with every output once"
    lab.row("event streams: nothing lost, nothing twice", seen, whole == len(lost))
    lab.untouched(lab.callers.all, begin, "all")
    for caller, reader in zip(lost, again, strict=True):
        caller.reader = reader
    lab.cluster.start_replica("b")
    await lab.cluster.whole()


async def kill_ray_head(lab: Lab) -> None:
    """Ray's head killed"""
    called = {caller.worker for caller in lab.callers.all}  # an idle one may be one too many
    workers = {w.worker_id: w.pid for w in await lab.cluster.workers() if w.worker_id in called}
    root = psutil.Process(lab.cluster.services["ray-head"].pid)
    begin = time.monotonic()
    for process in [root, *root.children(recursive=True)]:
        process.kill()
    await lab.cluster.ended("ray-head")
    await asyncio.sleep(lab.outage / 2)
    newcomer = await lab.callers.call()
    lab.callers.all.append(newcomer)
    lab.row("new calls during the outage", "accepted", True)
    await asyncio.sleep(lab.outage / 2)
    lab.untouched(lab.callers.all[:CALLS], begin, f"all in {lab.outage:g} s without it")
    await asyncio.to_thread(lab.cluster.start_ray_head)
    await asyncio.sleep(10)
    after = {w.worker_id: w.pid for w in await lab.cluster.workers()}
    alive = sum(process_of(pid) and id in after for id, pid in workers.items())
    lab.row("the workers that lived are kept", f"{alive} of {len(workers)}", alive == len(workers))
    lab.untouched(lab.callers.all[:CALLS], begin, "all after its return")
    victim = lab.busiest()
    again = time.monotonic()
    psutil.Process(workers[victim]).kill()
    await lab.freed({victim}, again, 10)
    await lab.full(again, 30)


async def drain_node(lab: Lab) -> None:
    """SIGTERM of a worker node"""
    host = lab.cluster.network["two"]
    there = [c for c in lab.callers.all if c.host == host.address]
    begin = time.monotonic()
    lab.cluster.kill("two", signal.SIGTERM)
    await asyncio.sleep(3)
    newcomers = await asyncio.gather(*(lab.callers.call() for _ in range(3)))
    lab.callers.all += newcomers
    where = {c.connection_id: c.worker_id for c in await lab.cluster.connections()}
    hosts = {w.worker_id: w.host for w in await lab.cluster.workers()}
    elsewhere = {hosts.get(where.get(c.id, ""), "?") for c in newcomers}
    seen = ", ".join(sorted(elsewhere))
    lab.row("new calls go to other nodes", seen, host.address not in elsewhere)
    await asyncio.sleep(5)
    lost = [caller for caller in lab.callers.all if caller.told is not None]
    lab.row("zero calls lost", f"{len(lost)} of {len(lab.callers.all)}", not lost)
    lab.untouched(there, begin, "those on it")
    for caller in there:
        await lab.callers.drop(caller)
    empty = time.monotonic()
    status = await lab.cluster.ended("two")
    lab.took("exits when it is empty", 20, empty, time.monotonic())
    lab.row("its exit status is 0", str(status), status == 0)
    lab.cluster.start_workers("two")
    await lab.cluster.whole()


async def upgrade(lab: Lab) -> None:
    """Rolling upgrade under 2 offers/s for 60 s"""
    failed: list[str] = []
    dropped: list[str] = []
    made = 0

    async def one_call() -> None:
        try:
            caller = await lab.callers.call()
        except Exception as error:
            failed.append(repr(error))
            return
        await asyncio.sleep(6)
        if caller.told is not None:
            dropped.append(caller.reason)
        await caller.hang_up()

    async def replace_everything() -> None:
        await asyncio.sleep(5)
        lab.cluster.kill("one", signal.SIGHUP)
        await asyncio.sleep(15)
        for node in NODES:
            lab.cluster.kill(node, signal.SIGTERM)
            await lab.cluster.ended(node, 90)
            lab.cluster.start_workers(node)
            await lab.cluster.whole()

    await lab.callers.hang_up()
    before = {w.worker_id for w in await lab.cluster.workers()}
    begin = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        replacing = tasks.create_task(replace_everything())
        while time.monotonic() < begin + 60 or not replacing.done():
            tasks.create_task(one_call())
            made += 1
            await asyncio.sleep(max(0.0, begin + made / 2 - time.monotonic()))
    kept = before & {w.worker_id for w in await lab.cluster.workers()}
    lab.row("every worker was replaced", f"{len(kept)} of {len(before)} are left", not kept)
    lab.row("zero failed offers", f"{len(failed)} of {made} {failed[:3]}", not failed)
    lab.row("zero dropped calls", f"{len(dropped)} of {made} {dropped[:3]}", not dropped)


FAULTS: dict[str, Callable[[Lab], Awaitable[None]]] = {
    "worker": kill_worker,
    "loop": block_loop,
    "node": kill_node,
    "link": cut_link,
    "partition": partition,
    "replica": kill_replica,
    "redis": lose_redis,
    "snapshot": restart_redis,
    "failover": fail_over,
    "slow-redis": slow_redis,
    "ray-head": kill_ray_head,
    "drain": drain_node,
    "upgrade": upgrade,
}


async def run(cluster: Cluster, names: Sequence[str], outage: float) -> list[Row]:
    """Run faults one after the other, each on a whole cluster with all calls live."""
    lab = Lab(cluster, outage)
    try:
        await asyncio.to_thread(cluster.start)
        for name in names:
            await cluster.whole()
            await lab.callers.fill(CALLS)
            lab.fault = (FAULTS[name].__doc__ or name).strip()
            await FAULTS[name](lab)
    except BaseException:
        for log in sorted(cluster.logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        await lab.callers.close()
        await cluster.stop()
    return lab.rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--outage", type=float, default=60, help="seconds without Ray's head")
    options = parser.parse_args()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(unknown)}")
    if why := unusable():
        print(why, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started has to be ended
    with Network(HOSTS) as network, network["client"].entered():
        cluster = Cluster(network)
        rows = asyncio.run(run(cluster, options.faults or list(FAULTS), options.outage))
    show(rows)
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
