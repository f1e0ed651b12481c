"""Limits of connections and of time, over all transports."""

import asyncio
import contextlib
import json
import time
from contextlib import AsyncExitStack

import pytest

from tests.conformance.call import TIMEOUT, TRANSPORTS, Transport, calling, events, refused

MOST = 64
"""Connections that are tried to fill a system."""


async def test_one_limit_for_all_transports(base_url: str) -> None:
    """`concurrency_limit` counts WebRTC, WebSocket and telephone together, and who has left not"""
    expected = {"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": 2}}
    async with calling(base_url, "/limited", "webrtc"):
        async with calling(base_url, "/limited", "telephone"):
            for transport in TRANSPORTS:
                assert await refused(base_url, "/limited", transport) == expected
        async with asyncio.timeout(TIMEOUT), AsyncExitStack() as stack:
            while True:
                with contextlib.suppress(AssertionError):
                    call = calling(base_url, "/limited", "websocket")
                    await stack.enter_async_context(call)
                    break
                await asyncio.sleep(0.1)
            for transport in TRANSPORTS:
                assert await refused(base_url, "/limited", transport) == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_id_in_use(base_url: str, transport: Transport) -> None:
    """It is refused over each transport, and its owner goes on"""
    expected = {"status": "failed", "meta": {"error": "connection_already_exists"}}
    async with calling(base_url, transport=transport) as call:
        for other in TRANSPORTS:
            assert await refused(base_url, "/obedient", other, call.id) == expected
        await call.command("count", 1)
        await call.message("fetch_output", 2)


async def test_an_id_is_free_again(base_url: str) -> None:
    """After its end an id can be used again, over another transport too"""
    async with calling(base_url, transport="webrtc") as call:
        id = call.id
        await call.command("close", "")
        await call.ended()
    for transport in ("websocket", "telephone", "webrtc"):
        async with calling(base_url, transport=transport, id=id) as call:
            await call.command("close", "")
            await call.ended()


async def test_the_time_limit(base_url: str) -> None:
    """`time_limit` ends a call over each transport with the reason time_limit"""

    async def timed(transport: Transport) -> None:
        async with calling(base_url, "/timed", transport) as call:
            begin = time.monotonic()
            await call.ended()
            assert time.monotonic() - begin > 1
            assert {"type": "update_connection", "data": "closed"} in call.messages
            last = (await events(call.url + "/outputs", call.id))[-1]
            assert (last.name, json.loads(last.data)) == ("end", {"reason": "time_limit"})

    async with asyncio.TaskGroup() as group:
        for transport in TRANSPORTS:
            group.create_task(timed(transport))


async def test_clients_that_vanish(base_url: str) -> None:
    """A WebSocket or phone that is cut off holds no place"""
    for transport in ("websocket", "telephone"):
        async with calling(base_url, "/limited", transport) as call:
            connection = call.client.socket._response.connection  # no closing handshake
            assert connection is not None
            connection.transport.abort()
            last = (await events(call.url + "/outputs", call.id))[-1]
            assert (last.name, json.loads(last.data)) == ("end", {"reason": "client_closed"})


async def test_a_full_system(base_url: str) -> None:
    """503 no_worker_available over each transport when all slots are taken, with `Retry-After`"""
    async with AsyncExitStack() as stack:
        refusal = ""
        for _ in range(MOST):
            try:
                await stack.enter_async_context(calling(base_url, transport="websocket"))
            except AssertionError as error:
                refusal = str(error)
                break
        if not refusal:
            pytest.skip(f"there is room for {MOST}")
        assert "no_worker_available" in refusal
        for transport in TRANSPORTS:
            answer = await refused(base_url, "/obedient", transport)
            assert answer["meta"]["error"] == "no_worker_available"
