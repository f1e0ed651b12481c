"""A user's own routes work on every replica; what workers log can be read by a machine."""

import json

import aiohttp
import pytest

from tests.clients import AiortcClient
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack


async def post(url: str, body: object) -> tuple[int, object]:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return response.status, await response.json()


async def get(url: str, webrtc_id: str) -> tuple[int, str]:
    params = {"webrtc_id": webrtc_id}
    async with aiohttp.ClientSession() as session, session.get(url, params=params) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("route", ["/spec/input_hook", "/spec/input_hook_sync"])
async def test_the_specifications_examples_work_on_every_replica(stack: Stack, route: str) -> None:
    """A user's own routes: not awaited `set_input`, `output_stream` and `fetch_latest_output`."""
    a, b = stack.replicas["a"], stack.replicas["b"]
    client = AiortcClient(a)
    await client.connect()
    try:
        readers = [Reader(url + "/spec/updates", client.webrtc_id) for url in (a, b)]
        for number, url in enumerate([b, a, b]):
            hook = {"webrtc_id": client.webrtc_id, "conf_threshold": number / 10}
            assert (await post(url + route, hook))[0] == 200
            for reader in readers:
                await reader.wait_for(number + 1)
        for reader in readers:
            assert [event.data for event in reader.outputs()] == ["0.0", "0.1", "0.2"]
            await reader.close()
        assert await get(b + "/spec/latest", client.webrtc_id) == (200, "0.2")
    finally:
        await client.close()


def test_what_workers_log_is_json(stack: Stack) -> None:
    """Ray puts nothing before it: each line of a worker is one object with the worker's id."""
    whole = (stack.logs / "workers.log").read_text().rpartition("\n")[0]
    written = [json.loads(line) for line in whole.splitlines() if '"worker_id"' in line]
    workers = {worker["worker_id"] for worker in stack.status()["workers"]}
    assert {line["worker_id"] for line in written} >= workers
