"""WebSocket and telephone frames."""

import asyncio
import json
import re
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conformance.call import TIMEOUT, calling, request
from tests.conformance.effects import frequency
from tests.socket_client import SocketClient

TWILIO = Path(__file__).parent / "twilio_session.json"
PATHS = ("/websocket/offer", "/telephone/handler")


async def answers(url: str, *frames: str) -> tuple[list[dict[str, Any]], int | None]:
    """What a socket says to these frames until it closes, and its close code."""
    async with (
        asyncio.timeout(TIMEOUT),
        aiohttp.ClientSession() as session,
        session.ws_connect(url) as socket,
    ):
        for frame in frames:
            await socket.send_str(frame)
        said = [json.loads(message.data) async for message in socket]
        return said, socket.close_code


async def test_ping_and_stop(base_url: str) -> None:
    """`ping` gets `pong`; `stop` closes with 1000, over the telephone too"""
    async with calling(base_url, transport="websocket") as call:
        await call.client.send(event="ping")
        assert await call.client.wait_for_event("pong") == {"event": "pong"}
        await call.client.send(event="stop")
        await call.ended()
    async with calling(base_url, transport="telephone") as call:
        await call.client.send(event="stop", streamSid=call.id)
        await call.ended()


@pytest.mark.parametrize("path", PATHS)
async def test_a_bad_beginning(base_url: str, path: str) -> None:
    """What is no `start` gets the failed JSON, then close 1000"""
    url = base_url + "/obedient" + path
    for frame in (
        *("garbage", "[]", '{"event": "start"}', '{"event": "hello"}'),
        '{"event": "start", "websocket_id": "a b", "start": {"streamSid": "a b"}}',
        '{"event": "start", "websocket_id": 5, "streamSid": 5}',
    ):
        said, code = await answers(url, frame)
        assert (len(said), code) == (1, 1000), (frame, said)
        assert said[0]["status"] == "failed"
        assert said[0]["meta"]["error"]


async def test_frames_without_sense(base_url: str) -> None:
    """After `start` they change nothing"""
    async with calling(base_url, transport="websocket") as call:
        for frame in (
            "garbage",
            "[]",
            "{}",
            '{"event": "media"}',
            '{"event": "media", "media": 1}',
        ):
            await call.client.socket.send_str(frame)
        await call.client.send(event="media", media={"payload": "no base64!"})
        await call.client.send(event="media", media={"payload": ""})
        await call.command("count", 1)
        await call.message("fetch_output", 2)


async def test_a_frame_that_is_too_large(base_url: str) -> None:
    """More than 256 KiB end the connection with the failed JSON"""
    async with calling(base_url, transport="websocket") as call:
        await call.client.send(event="media", media={"payload": "/" * (256 << 10)})
        await call.ended()
        assert call.messages[-1]["status"] == "failed"


@pytest.mark.parametrize("prefix", ["/obedient", "/audio-send-receive"])
async def test_an_incoming_call(base_url: str, prefix: str) -> None:
    """TwiML: Say, Connect/Stream to the address as the caller saw it, with its port, Say"""
    status, text = await request(
        "POST", base_url + prefix + "/telephone/incoming", data={"CallSid": "CA1"}
    )
    assert status == 200
    verbs = re.findall(r"<(\w+)", text.partition("<Response>")[2])
    assert verbs == ["Say", "Connect", "Stream", "Say"]
    host = base_url.partition("://")[2]
    assert re.findall(r'<Stream url="([^"]*)"', text) == [f"wss://{host}{prefix}/telephone/handler"]


async def test_a_session_of_twilio(base_url: str) -> None:
    """Frames as Twilio sends them: sound comes back with its `streamSid`, then `mark`"""
    frames = json.loads(TWILIO.read_text())
    sid = "MZ" + uuid.uuid4().hex
    url = base_url + "/audio-send-receive"
    async with SocketClient(url, sid, rate=8000, phone=True) as client:
        await client.start_with(frames, sid)
        await client.wait_for_audio(0.5)
        mark = await client.wait_for_event("mark")
        assert mark["mark"]["name"]
        await client.send(event="stop", streamSid=sid, sequenceNumber="99")
        assert await client.wait_closed() == 1000
        assert {event["streamSid"] for event in client.events} == {sid}
        assert abs(frequency(client.heard()[-2400:], 8000) - 600) < 20
