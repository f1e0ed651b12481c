"""Limits are exact over all replicas and no slot is lost: else a cluster fills up with nobody."""

import asyncio
import re
import time
import uuid

import aiohttp

from tests.clients import AiortcClient
from tests.e2e.stack import Stack
from tests.e2e.test_calls import post


def held_slots(stack: Stack) -> list[float]:
    """Used and reserved slots as each replica's metrics have them."""
    return [
        stack.metric(name, "rayrtc_slots", state=state)
        for name in stack.replicas
        for state in ("used", "reserved")
    ]


async def settled(stack: Stack, timeout: float) -> None:
    """Until no slot is held, by the registry and by the metrics of both replicas."""
    deadline = time.monotonic() + timeout
    while any(held := await asyncio.to_thread(held_slots, stack)):
        assert time.monotonic() < deadline, f"slots are still held: {held}"
        await asyncio.sleep(0.5)
    workers = (await asyncio.to_thread(stack.status))["workers"]
    assert [worker["used"] + worker["reserved"] for worker in workers] == [0, 0]


async def test_fifty_offers_at_once_give_exactly_the_limit(stack: Stack) -> None:
    urls = [stack.replicas[name] + "/limited" for name in ("a", "b")]
    clients = [AiortcClient(urls[number % 2]) for number in range(50)]
    offers = [await client.create_offer() for client in clients]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:

        async def send(client: AiortcClient, offer: dict[str, str]) -> tuple[int, dict, str | None]:
            async with session.post(client.url + "/webrtc/offer", json=offer) as response:
                return response.status, await response.json(), response.headers.get("Retry-After")

        answers = await asyncio.gather(*map(send, clients, offers))
        refused = [answer for answer in answers if answer[0] == 429]
        assert len(refused) == 47
        for _, body, retry_after in refused:
            assert body["status"] == "failed"
            assert body["meta"]["error"] == "concurrency_limit_reached"
            assert body["meta"]["limit"] == 3
            assert int(retry_after or 0) >= 1
        calls = [
            (client, body)
            for client, (status, body, _) in zip(clients, answers, strict=True)
            if status == 200
        ]
        assert len(calls) == 3
        await asyncio.gather(*(client.accept(body) for client, body in calls))
        await calls[0][0].close()
        await asyncio.sleep(1.5)
        more = [AiortcClient(urls[number % 2]) for number in range(5)]
        results = await asyncio.gather(
            *[send(client, await client.create_offer()) for client in more]
        )
        assert sorted(status for status, _, _ in results) == [200, 429, 429, 429, 429]
    await asyncio.gather(*(client.close() for client in clients + more))
    # the one that was let in never connected: its slot is held until the connect deadline
    await settled(stack, 45)


async def test_bad_offers_and_vanished_clients_hold_no_slot(stack: Stack) -> None:
    urls = [stack.replicas[name] for name in ("a", "b")]
    offer = await AiortcClient(urls[0]).create_offer()
    good = offer["sdp"]
    garbage = [
        "x",
        "v=0\r\n",
        good[: len(good) // 2],
        good.replace("a=fingerprint", "a=fingerprnt"),
        good.replace("a=ice-ufrag", "a=ice-ufrog"),
        good.replace("m=audio", "m=nonsense"),
        good.replace("opus/48000/2", "opus"),
        good.replace("\r\n", "\0"),
        good.replace("a=setup:actpass", "a=setup:nobody"),
        re.sub(r"m=audio \d+", "m=audio nine", good),
    ]
    statuses = []
    for number in range(200):
        body = {"sdp": garbage[number % 10], "type": "offer", "webrtc_id": uuid.uuid4().hex}
        status, answer = await post(urls[number % 2] + "/webrtc/offer", body)
        statuses.append(status)
        assert status < 500, (garbage[number % 10][:300], answer)
    assert set(statuses) == {400}
    # clients that go away after their offer: without ICE, and while the offer is on its way
    vanished = [AiortcClient(urls[number % 2]) for number in range(6)]
    for client in vanished:
        body = await client.create_offer()
        await post(client.url + "/webrtc/offer", body)
        await client.close()
    for client in [AiortcClient(url) for url in urls]:
        body = await client.create_offer()
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.post(client.url + "/webrtc/offer", json=body))
            await asyncio.sleep(0.01)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        await client.close()
    await settled(stack, 60)
