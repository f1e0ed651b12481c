"""WebSocket clients and telephone calls of a running cluster: audio, messages, limits, ends."""

import json
from typing import Any

import aiohttp
import numpy as np

from tests.clients import AiortcClient
from tests.e2e.stack import Stack
from tests.e2e.test_calls import post
from tests.e2e.test_limits import settled
from tests.socket_client import SocketClient


async def first_frame(client: SocketClient) -> dict[str, Any]:
    """What a refused client is told."""
    return json.loads(await client.socket.receive_str(timeout=5))


async def test_a_tone_comes_back_without_clicks(stack: Stack) -> None:
    async with SocketClient(stack.replicas["a"], rate=48000) as client:
        await client.start()
        client.play(440)
        await client.wait_for_audio(2.5)
        heard = client.heard()[-72000:].astype(float)
        assert abs(client.peak() - 440) < 2
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) ** 2
        near = abs(np.fft.rfftfreq(len(heard), 1 / 48000) - 440) < 10
        # mu-law's own noise is 38 dB below; a click in each frame is far above that
        assert spectrum[~near].sum() / spectrum[near].sum() < 10**-3
        await client.send(event="ping")
        assert await client.wait_for_event("pong") == {"event": "pong"}
        await client.send(event="stop")
        assert await client.wait_closed() == 1000
    await settled(stack, 10)


async def test_inputs_reach_a_websocket_and_its_outputs_come_back(stack: Stack) -> None:
    """The hook is another replica than the one with the socket."""
    async with SocketClient(stack.replicas["a"], rate=48000) as client:
        await client.start()
        client.play()
        await client.wait_for_audio(0.2)
        body = {"webrtc_id": client.id, "inputs": ["loud", 7]}
        assert (await post(stack.replicas["b"] + "/input_hook", body))[0] == 200
        await client.wait_for_message("fetch_output")
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                stack.replicas["b"] + "/outputs/latest", params={"webrtc_id": client.id}
            ) as response,
        ):
            assert (await response.json())["args"] == ["loud", 7]


async def test_all_transports_share_one_limit(stack: Stack) -> None:
    """FastRTC does not count phone calls."""
    url_a, url_b = (stack.replicas[name] + "/limited" for name in ("a", "b"))
    webrtc = AiortcClient(url_a)
    await webrtc.connect()
    async with SocketClient(url_b, rate=48000) as one, SocketClient(url_a, phone=True) as two:
        await one.start()
        await two.start()
        one.play()
        await one.wait_for_audio(0.2)
        for phone in (False, True):
            async with SocketClient(url_b, phone=phone) as third:
                await third.start(read=False)
                told = await first_frame(third)
                assert told == {
                    "status": "failed",
                    "meta": {"error": "concurrency_limit_reached", "limit": 3},
                }
                await third.socket.receive()
                assert third.socket.close_code == 1000
        status, answer = await post(url_a + "/webrtc/offer", await AiortcClient("").create_offer())
        assert (status, answer["meta"]["error"]) == (429, "concurrency_limit_reached")
        count = len(one.heard())
        await one.wait_for_audio(count / 48000 + 0.3)
    await webrtc.close()
    await settled(stack, 15)


async def test_an_id_that_is_in_use_is_refused_and_its_owner_goes_on(stack: Stack) -> None:
    """FastRTC ends the session whose id a refused client used."""
    async with SocketClient(stack.replicas["a"], rate=48000) as owner:
        await owner.start()
        owner.play()
        await owner.wait_for_audio(0.2)
        async with SocketClient(stack.replicas["b"], owner.id) as other:
            await other.start(read=False)
            assert (await first_frame(other))["meta"]["error"] == "connection_already_exists"
        count = len(owner.heard())
        await owner.wait_for_audio(count / 48000 + 0.5)


async def test_clients_that_vanish_hold_no_slot(stack: Stack) -> None:
    clients = [
        await SocketClient(stack.replicas[name], phone=phone).__aenter__()
        for name in ("a", "b")
        for phone in (False, True)
    ]
    for client in clients[:2]:
        await client.start()
    await clients[0].send(event="media", media={"payload": "////"})
    for client in clients:
        connection = client.socket._response.connection  # no closing handshake
        assert connection is not None
        connection.transport.abort()
    await settled(stack, 10)
    for client in clients:
        await client.__aexit__(None, None, None)
