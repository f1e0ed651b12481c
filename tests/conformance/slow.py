"""Rules that take long to check, so that they are checked beside the calls of the table.

Each returns what is wrong.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp

from tests.clients import AiortcClient
from tests.conformance.call import calling

CONNECT_LIMIT = 30.0
"""Seconds, by the contract, until a connection that is not connected is closed."""
SLACK = 10.0
HEARTBEAT_LIMIT = 40.0
"""Seconds within which an idle event stream says something: proxies cut what is silent for 60."""


async def half_open(base: str) -> list[str]:
    """Ten offers for one place: one is answered. Its client never connects: the place comes free"""
    client = AiortcClient("")
    body = await client.create_offer()
    await client.close()
    url = base + "/single/webrtc/offer"
    refusal = {"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": 1}}
    found = []

    connector = aiohttp.TCPConnector(force_close=True)  # the server may close an idle one
    async with aiohttp.ClientSession(connector=connector) as session:

        async def offer(name: str) -> int:
            offered = {**body, "webrtc_id": f"{body['webrtc_id']}-{name}"}
            async with session.post(url, json=offered) as response:
                if response.status == 429:
                    if await response.json() != refusal:
                        found.append(await response.text())
                    if not response.headers.get("Retry-After", "").isdecimal():
                        found.append("429 without Retry-After")
                return response.status

        begin = time.monotonic()
        statuses = sorted(await asyncio.gather(*(offer(str(number)) for number in range(10))))
        if statuses != [200] + [429] * 9:
            return [*found, f"ten offers were answered with {statuses}"]
        while await offer("later") != 200:
            if time.monotonic() - begin > CONNECT_LIMIT + SLACK:
                return [*found, "the place is still taken"]
            await asyncio.sleep(0.5)
        return found


async def heartbeat(base: str) -> list[str]:
    """An idle event stream has comments"""
    async with (
        calling(base, transport="websocket") as call,
        aiohttp.ClientSession() as session,
        session.get(call.url + "/updates", params={"webrtc_id": call.id}) as response,
    ):
        try:
            async with asyncio.timeout(HEARTBEAT_LIMIT):
                async for line in response.content:
                    if line.startswith(b":"):
                        return []
        except TimeoutError:
            pass
    return [f"no comment within {HEARTBEAT_LIMIT:g} s, or the stream ended"]


SLOW: dict[str, Callable[[str], Awaitable[list[str]]]] = {
    "half open": half_open,
    "heartbeat": heartbeat,
}
