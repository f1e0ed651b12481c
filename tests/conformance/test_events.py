"""Outputs as Server-Sent Events."""

import asyncio
import json

import aiohttp
import pytest

from tests.conformance.call import TIMEOUT, TRANSPORTS, Transport, calling, events, request
from tests.e2e.sse import Reader

MANY = 3000
"""Outputs, more than a system keeps for each connection."""


async def test_headers(base_url: str) -> None:
    """text/event-stream, `Cache-Control: no-cache`, `X-Accel-Buffering: no`"""
    async with (
        calling(base_url, transport="websocket") as call,
        aiohttp.ClientSession() as session,
    ):
        for route in ("/updates", "/outputs"):
            async with session.get(call.url + route, params={"webrtc_id": call.id}) as response:
                assert response.content_type == "text/event-stream"
                assert response.headers["Cache-Control"] == "no-cache"
                assert response.headers["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_events_are(base_url: str, transport: Transport) -> None:
    """Ids, both forms, every type, two readers at once, `end` with its reason"""
    async with calling(base_url, transport=transport) as call:
        readers = [Reader(call.url + route, call.id) for route in ("/updates", "/outputs") * 2]
        await call.command("types", "two\nlines")
        await call.message("fetch_output", 2)
        await call.command("types", {"a": ["ä", None, 1.5]})
        await call.message("fetch_output", 3)
        await call.command("close", "done")
        await call.ended()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*(reader.task for reader in readers))
        updates, outputs = readers[0].events, readers[1].events
        assert (readers[2].events, readers[3].events) == (updates, outputs)
        ids = [event.id for event in outputs]
        assert [event.id for event in updates] == ids
        assert len(set(ids)) == 4
        assert all(ids)
        assert [event.name for event in outputs] == ["output"] * 3 + ["end"]
        assert [event.name for event in updates] == ["message"] * 3 + ["end"]
        assert updates[0].data == call.id
        assert json.loads(outputs[0].data) == [call.id, transport == "telephone"]
        assert updates[1].data == "two\nlines"
        assert json.loads(updates[2].data) == {"a": ["ä", None, 1.5]}
        several = [[[1, 2]], "Ynl0ZXM=", {"text": "said"}, None, {"a": [1.5]}]
        assert json.loads(outputs[1].data) == ["two\nlines", *several]
        for reader in readers:
            assert json.loads(reader.events[-1].data) == {"reason": "handler_closed"}
        # who comes after the end gets everything too
        assert await events(call.url + "/outputs", call.id) == outputs


async def test_resuming(base_url: str) -> None:
    """After `Last-Event-ID`, header or query, nothing is lost and nothing comes twice"""
    async with calling(base_url, transport="websocket") as call:
        url = call.url + "/outputs"
        await call.command("count", 500)
        reader = Reader(url, call.id)
        await reader.wait_for(100, "output")
        await reader.close()
        seen = len(reader.events)
        rest = Reader(url, call.id, reader.cursor)
        queried = Reader(f"{url}?last_event_id={reader.cursor}", call.id)
        expected = [[call.id, False], *[[number] for number in range(500)]]
        for other in (rest, queried):
            await other.wait_for(len(expected) - seen, "output")
            got = [json.loads(event.data) for event in [*reader.events, *other.events]]
            assert got == expected
            await other.close()


async def test_a_gap_is_told(base_url: str) -> None:
    """A cursor that was trimmed away gets `event: gap`, never a silent skip"""
    async with calling(base_url, transport="websocket") as call:
        url = call.url + "/outputs"
        _, first = await call.latest()
        await call.command("count", MANY)
        reader = Reader(url, call.id)
        async with asyncio.timeout(60):
            while not reader.events or json.loads(reader.events[-1].data) != [MANY - 1]:
                await asyncio.sleep(0.1)
        await reader.close()
        resumed = Reader(url, call.id, first["id"])
        async with asyncio.timeout(20):
            while not resumed.events or json.loads(resumed.events[-1].data) != [MANY - 1]:
                await asyncio.sleep(0.1)
        await resumed.close()
        begin, *rest = resumed.events
        if begin.name == "gap":
            begin, *rest = rest
        else:
            assert json.loads(begin.data) == [0]
        numbers = [json.loads(event.data)[0] for event in (begin, *rest)]
        assert numbers == list(range(numbers[0], MANY))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_hangs_up(base_url: str, transport: Transport) -> None:
    """The end is told with the reason client_closed"""
    async with calling(base_url, transport=transport) as call:
        reader = Reader(call.url + "/updates", call.id)
        await reader.wait_for(1)
    await reader.wait_for(1, "end")
    assert json.loads(reader.outputs("end")[0].data) == {"reason": "client_closed"}


@pytest.mark.parametrize("hook", ["/own/input_hook", "/own/input_hook_sync"])
async def test_the_specifications_routes(base_url: str, hook: str) -> None:
    """A user's own routes: `set_input`, `output_stream`, `fetch_latest_output`"""
    async with calling(base_url, transport="websocket") as call:
        reader = Reader(base_url + "/own/updates", call.id)
        body = {"webrtc_id": call.id, "command": "count", "value": 3}
        assert (await request("POST", base_url + hook, json=body))[0] == 200
        await reader.wait_for(4)
        assert [event.data for event in reader.events] == [call.id, "0", "1", "2"]
        await reader.close()
        query = {"params": {"webrtc_id": call.id}}
        assert await request("GET", base_url + "/own/latest", **query) == (200, 2)
