"""Two worker nodes: calls go to both, and a node that is told to leave cuts none of them.

All faults, with the times that callers wait: `python -m tests.network.faults`.
"""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from tests.network.callers import Callers, media
from tests.network.cluster import HOSTS, NODES, Cluster
from tests.network.hosts import Network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Network(HOSTS) as network, network["client"].entered():
        yield Cluster(network, RAYRTC_LOAD_MAX="1")


async def test_a_node_that_leaves_cuts_no_call(cluster: Cluster) -> None:
    callers = Callers(cluster)
    loop = asyncio.get_running_loop()
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.whole()
        await callers.fill(6)
        hosts = {cluster.network[node].address for node in NODES}
        assert {caller.host for caller in callers.all} == hosts, "calls go to both nodes"
        there = [c for c in callers.all if c.host == cluster.network["two"].address]
        begin = loop.time()
        cluster.kill("two", signal.SIGTERM)
        await asyncio.sleep(2)
        callers.all += [await callers.call() for _ in range(3)]
        await asyncio.sleep(1)
        left = await cluster.connections()
        workers = {w.worker_id: w.host for w in await cluster.workers()}
        on_two = [c for c in left if workers[c.worker_id] == cluster.network["two"].address]
        assert len(on_two) == len(there), "new calls go elsewhere"
        assert media(there, begin).lost == 0
        assert [caller.reason for caller in callers.all if caller.told is not None] == []
        for caller in there:
            await callers.drop(caller)
        assert await cluster.ended("two", 30) == 0, "it exits when it is empty"
        assert [caller.reason for caller in callers.all if caller.told is not None] == []
    except BaseException:
        for log in sorted(cluster.logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        await callers.close()
        await cluster.stop()
