"""Two replicas, two workers, one Redis: a user must not notice which replica serves what."""

import asyncio
import signal

from tests.clients import AiortcClient
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack
from tests.e2e.test_calls import post


async def test_a_killed_replica_loses_no_output(stack: Stack) -> None:
    """Offer at A, input at B, readers at both; B is killed, its reader goes on at A."""
    a, b = (stack.replicas[name] + "/numbered" for name in ("a", "b"))
    client = AiortcClient(a)
    await client.connect()
    try:
        at_a, at_b = (
            Reader(a + "/updates", client.webrtc_id),
            Reader(b + "/updates", client.webrtc_id),
        )
        body = {"webrtc_id": client.webrtc_id, "inputs": [1000, 0.004]}
        assert (await post(b + "/input_hook", body))[0] == 200
        await at_b.wait_for(300)
        stack.kill("b", signal.SIGKILL)
        await at_b.task
        assert 300 <= len(at_b.outputs()) < 1000, "B was killed in the middle"
        resumed = Reader(a + "/updates", client.webrtc_id, at_b.cursor)
        await at_a.wait_for(1000, timeout=30)
        await resumed.wait_for(1000 - len(at_b.outputs()), timeout=30)
        await asyncio.sleep(0.5)
        expected = [str(number) for number in range(1000)]
        assert [event.data for event in at_a.outputs()] == expected
        assert [event.data for event in at_b.outputs() + resumed.outputs()] == expected
        assert not resumed.outputs("gap")
        await at_a.close()
        await resumed.close()
    finally:
        await client.close()
