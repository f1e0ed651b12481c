"""What operators see of how long outputs take to their readers."""

import asyncio

from rayrtc.cluster.client import Cluster
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import Replica, Workers
from tests.e2e.sse import Reader


async def test_outputs_that_a_reader_waits_for_are_timed(
    replica: Replica, workers: Workers, cluster: Cluster
) -> None:
    (worker,) = await workers(1)
    api = await replica()
    await api.offer("alice")
    async with asyncio.timeout(5):
        while cluster.time.now() is None:
            await asyncio.sleep(0.01)
    await worker.put("alice", '["before"]')
    await asyncio.sleep(0.2)
    reader = Reader(api.url + "/updates", "alice")
    await reader.wait_for(1)
    await worker.put("alice", '["awaited"]')
    await reader.wait_for(2)
    await worker.close("alice", EndReason.CLIENT_CLOSED)
    await reader.wait_for(1, "end")
    await reader.close()
    late = Reader(api.url + "/outputs", "alice")
    await late.wait_for(2, "output")
    await late.close()
    assert await api.metric("rayrtc_outputs_delivered_total") == 4
    assert await api.metric("rayrtc_output_relay_seconds_count") == 1
    assert await api.metric("rayrtc_output_relay_seconds_sum") < 2
