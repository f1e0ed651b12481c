"""Control messages, the same over each transport."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from tests.clients import AiortcClient
from tests.conformance.call import TIMEOUT, TRANSPORTS, Call, Transport, calling, request
from tests.conformance.calls import FREQUENCY, local
from tests.conformance.effects import frequency


async def all_messages(call: Call) -> None:
    """Have the handler cause one of each type, and see what the client gets."""
    message = await call.message("fetch_output")
    assert message == {"type": "fetch_output", "data": []}
    await call.command("ask", 1)
    assert await call.message("send_input") == {"type": "send_input", "data": []}
    await call.command("warn", "hot")
    assert await call.message("warning") == {"type": "warning", "data": "hot", "message": "hot"}
    await call.command("fail", "it broke")
    expected = {"type": "error", "data": "it broke", "message": "it broke"}
    assert await call.message("error") == expected
    await call.command("raise", "a bug")
    expected = {"type": "error", "data": "a bug", "message": "a bug"}
    assert await call.message("error", 2) == expected
    await call.command("large", 2 << 20)
    assert (await call.message("error", 3))["message"]
    for type, data in (("log", "thinking"), ("stopword", "computer")):
        await call.command("message", json.dumps({"type": type, "data": data}))
        assert await call.message(type) == {"type": type, "data": data}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_each_message(base_url: str, transport: Transport) -> None:
    """Each type in its form; errors and warnings under `message` too; the call outlives errors"""
    async with calling(base_url, transport=transport) as call:
        await all_messages(call)
        assert sum(message["type"] == "error" for message in call.messages) == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_close_stream(base_url: str, transport: Transport) -> None:
    """`end_stream` with its text; playback drains; then the connection closes"""
    async with calling(base_url, transport=transport) as call:
        await call.command("play", 1.0)
        await call.message("fetch_output", 2)
        await call.command("close", "that was all")
        assert await call.message("end_stream") == {"type": "end_stream", "data": "that was all"}
        await call.ended()
        assert {"type": "update_connection", "data": "closed"} in call.messages
        assert 0.8 < call.seconds_heard < 1.1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_update_connection(base_url: str, transport: Transport) -> None:
    """A route's `update_connection(id, "closed")` tells the client and closes"""
    async with calling(base_url, transport=transport) as call:
        query = {"params": {"webrtc_id": call.id}}
        assert (await request("POST", base_url + "/own/close", **query))[0] == 200
        await call.ended()
        assert {"type": "update_connection", "data": "closed"} in call.messages


async def test_no_data_channel(base_url: str) -> None:
    """Sound flows for a client that opens no data channel; inputs and outputs work"""
    url = base_url + "/audio-send-receive"
    client = AiortcClient(url, FREQUENCY, data_channel=False, loopback=local(base_url))
    try:
        await client.connect()
        body: dict[str, Any] = {"webrtc_id": client.webrtc_id, "inputs": [0.5]}
        assert (await request("POST", url + "/input_hook", json=body))[0] == 200
        async with asyncio.timeout(TIMEOUT):
            while client.samples_since(1.2) < 48000:
                await asyncio.sleep(0.05)
        heard = np.concatenate(client.samples)[-24000:]
        assert abs(frequency(heard, client.rate) - FREQUENCY) < 5
        query = {"params": {"webrtc_id": client.webrtc_id}}
        _, latest = await request("GET", url + "/outputs/latest", **query)
        assert latest["args"][0]["strength"] == 0.5
    finally:
        await client.close()


async def test_what_a_client_says(base_url: str) -> None:
    """What a client sends over its data channel changes nothing, whatever it is"""
    async with calling(base_url) as call:
        await call.message("fetch_output")  # the channel is open
        for text in ("garbage", "[]", "{}", '{"type": "error", "data": 1}', b"\xff", "x" * 65000):
            call.client.channel.send(text)
        await call.command("count", 1)
        await call.message("fetch_output", 2)


async def test_extra_tracks(base_url: str) -> None:
    """With `allow_extra_tracks` an offer of more media is answered, and the sound flows"""
    url, kinds = base_url + "/extra-tracks", ("audio", "video")
    client = AiortcClient(url, FREQUENCY, kinds=kinds, loopback=local(base_url))
    try:
        await client.connect()
        async with asyncio.timeout(TIMEOUT):
            while client.samples_since(1.2) < 48000:
                await asyncio.sleep(0.05)
        assert client.pictures == []
    finally:
        await client.close()


async def test_receiving_at_once(base_url: str) -> None:
    """A generator without parameters begins by itself, asks for nothing, and is heard"""
    client = AiortcClient(base_url + "/at-once", direction="recvonly", loopback=local(base_url))
    try:
        await client.connect()
        async with asyncio.timeout(TIMEOUT):
            while client.samples_since(0.7) < 24000:
                await asyncio.sleep(0.05)
        assert {message["type"] for message in client.messages} <= {"fetch_output"}
    finally:
        await client.close()
