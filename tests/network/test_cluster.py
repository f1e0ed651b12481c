"""Two worker nodes that differ: calls go to both, and a node that is told to leave cuts none of
them.

All faults, with the times that callers wait: `python -m tests.network.faults`.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.packets import Listener
from tests.network.callers import Callers, media
from tests.network.cluster import HOSTS, NODES, Cluster
from tests.network.hosts import Network

ADVERTISED = "10.77.0.103"
SETTINGS = {
    "one": {"RAYRTC_UDP_PORTS": "21100-21109"},
    "two": {
        "RAYRTC_UDP_PORTS": "21200-21209",
        "RAYRTC_ADVERTISED_HOSTS": ADVERTISED,
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 4, "desk": 1}',
    },
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    with Network(HOSTS) as network, network["client"].entered():
        network["two"].add_address(ADVERTISED)
        cluster = Cluster(
            network, app="tests.network.pools:app", nodes=SETTINGS, RAYRTC_LOAD_MAX="1"
        )
        try:
            await asyncio.to_thread(cluster.start)
            await cluster.whole()
            yield cluster
        finally:
            for log in sorted(cluster.logs.iterdir()):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
            await cluster.stop()


async def test_a_stream_is_served_where_its_resources_are(cluster: Cluster) -> None:
    """Each node has addresses and ports of its own; one alone has a desk."""
    listeners = [Listener(cluster.replicas["a"] + "/desk", loopback=False) for _ in range(4)]
    try:
        async with asyncio.timeout(60):  # the pool of that stream is told of by the first worker
            while not [w for w in await cluster.workers() if "desk" in w.streams and w.load < 0.5]:
                await asyncio.sleep(0.1)
        for listener in listeners:
            await listener.connect(60)
        where = {c.connection_id: c.worker_id for c in await cluster.connections()}
        workers = {w.worker_id: w for w in await cluster.workers()}
        assert {workers[where[lst.webrtc_id]].host for lst in listeners} == {
            cluster.network["two"].address
        }
        for listener in listeners:
            sdp = listener.pc.remoteDescription.sdp
            found = set(re.findall(r"^a=candidate:.* (\S+) (\d+) typ", sdp, re.MULTILINE))
            ((address, port),) = found
            assert address == ADVERTISED
            assert 21200 <= int(port) <= 21209
            async with asyncio.timeout(5):
                while not listener.packets:
                    await asyncio.sleep(0.02)
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


async def test_a_node_that_leaves_cuts_no_call(cluster: Cluster) -> None:
    callers = Callers(cluster)
    loop = asyncio.get_running_loop()
    hosts = {cluster.network[node].address for node in NODES}

    try:
        async with asyncio.timeout(60):
            # new calls go where the processors have the least to do
            while {caller.host for caller in callers.all} != hosts:
                assert len(callers.all) < 24, "calls go to both nodes before a worker is full"
                await callers.fill(len(callers.all) + 3)
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
    finally:
        await callers.close()
