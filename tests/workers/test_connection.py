"""Real aiortc clients over loopback: what a caller and a handler author rely on."""

import asyncio
import json
import time
from typing import Any

import pytest

from rayrtc.cluster.models import CandidateRequest, EndReason, InputEntry
from tests.clients import AiortcClient
from tests.workers.host import (
    AsyncEcho,
    Echo,
    Host,
    calling,
    handler_threads,
    hosting,
    peak,
    until,
)
from workers import ice_connection
from workers.connection import State


@pytest.mark.parametrize("handler", [Echo, AsyncEcho])
@pytest.mark.parametrize("data_channel", [True, False], ids=["data channel", "no data channel"])
async def test_a_client_hears_its_tone(handler: type, data_channel: bool) -> None:
    """FastRTC sends nothing to a client that opens no data channel."""
    async with (
        hosting(handler()) as host,
        calling(host, data_channel=data_channel) as (client, connection),
    ):
        await until(lambda: client.samples_since(1.2) > 48000, timeout=15)
        assert abs(peak(client) - 440) < 5
        assert connection.state is State.CONNECTED
        if data_channel:
            client.channel.send("hi")
            message = await client.wait_for_message("log")
            assert message == {"type": "log", "data": "Server received: hi"}


@pytest.mark.parametrize("handler", [Echo, AsyncEcho])
async def test_a_client_that_leaves_frees_everything_at_once(handler: type) -> None:
    async with hosting(handler()) as host:
        async with calling(host) as (client, connection):
            copy: Any = connection._handler
            await until(lambda: client.samples)
        await until(lambda: not len(host.connections))
        assert host.reasons == [EndReason.CLIENT_CLOSED]
        assert host.recorder.ends == [(connection.id, connection.session, "client_closed")]
        assert copy.shutdowns == 1
        await until(lambda: handler_threads() == 0)


async def test_a_client_that_closes_its_data_channel_may_open_another() -> None:
    """Its call goes on, and messages reach it through the new one."""
    async with hosting(AsyncEcho()) as host, calling(host) as (client, connection):
        await until(lambda: client.channel.readyState == "open")
        client.channel.close()
        await until(lambda: client.channel.readyState == "closed")
        channel = client.pc.createDataChannel("text")
        channel.on("message", lambda text: client.messages.append(json.loads(text)))
        await until(lambda: channel.readyState == "open")
        channel.send("again")
        await client.wait_for_message("log")
        assert connection.state is State.CONNECTED
        assert host.reasons == []


async def test_an_async_handler_may_have_a_plain_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Published handlers for FastRTC have one; it is called once, and is no error."""
    ended = []

    class Plain(AsyncEcho):
        def shutdown(self) -> None:  # type: ignore[override]
            ended.append(self)

    async with hosting(Plain()) as host:
        async with calling(host):
            pass
        await until(lambda: bool(host.ended))
    assert len(ended) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_server_can_close_a_connection() -> None:
    async with hosting(Echo()) as host, calling(host) as (client, connection):
        await until(lambda: client.channel.readyState == "open")
        host.connections.deliver(
            InputEntry(kind="close", connection_id=connection.id, session=connection.session)
        )
        await client.wait_for_message("update_connection")
        await until(lambda: host.reasons == [EndReason.SERVER_CLOSED])
        await client.wait_for_state("closed")


async def test_a_time_limit_counts_from_connect() -> None:
    async with hosting(AsyncEcho(), time_limit=1.0) as host:
        begin = time.monotonic()
        async with calling(host) as (client, _):
            await until(lambda: host.reasons == [EndReason.TIME_LIMIT])
            assert time.monotonic() - begin > 1.0
            assert {"type": "update_connection", "data": "closed"} in client.messages


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"connect_timeout": 1.0}, EndReason.CONNECT_TIMEOUT),
        ({"trickle_window": 0.5}, EndReason.ICE_FAILED),
    ],
)
async def test_a_client_that_never_comes_is_closed(options: Any, reason: EndReason) -> None:
    async with hosting(Echo(), **options) as host:
        client = AiortcClient("")
        body = await client.create_offer()
        lines = body["sdp"].splitlines(keepends=True)
        mute = "".join(x for x in lines if not x.startswith(("a=candidate", "a=end-of")))
        await host.connections.offer(host.request(client.webrtc_id, mute))
        await client.close()
        await until(lambda: not len(host.connections))
        assert host.reasons == [reason]
        await until(lambda: handler_threads() == 0)


async def test_a_client_that_vanishes_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consent runs out (RFC 7675, 5.1), here in a tenth of the time, and the slot is free."""
    assert (ice_connection.CONSENT_INTERVAL, ice_connection.CONSENT_EXPIRY) == (5, 30)
    monkeypatch.setattr(ice_connection, "CONSENT_INTERVAL", 0.5)
    monkeypatch.setattr(ice_connection, "CONSENT_EXPIRY", 3.0)
    async with hosting(Echo()) as host, calling(host) as (client, _):
        (transceiver,) = client.pc.getTransceivers()
        ice: Any = transceiver.receiver.transport.transport
        for protocol in ice._connection._protocols:
            protocol.transport.abort()  # says no goodbye
        begin = time.monotonic()
        await until(lambda: not len(host.connections))
        assert time.monotonic() - begin > 2, "it had answered a moment before"
        assert host.reasons == [EndReason.ICE_FAILED]
        (local,) = host.udp_mux.sockets()
        assert [local.users, local.routes, local.transactions] == [{}, {}, {}]


async def test_two_sessions_never_share_a_handler() -> None:
    async with hosting(Echo()) as host, calling(host) as one, calling(host, frequency=880) as two:
        await until(lambda: min(c.samples_since(1.5) for c, _ in (one, two)) > 48000, timeout=15)
        assert abs(peak(one[0]) - 440) < 5
        assert abs(peak(two[0]) - 880) < 5


async def connect_trickled(host: Host, client: AiortcClient) -> None:
    """As a browser does: an offer without candidates, which then follow one by one."""
    body = await client.create_offer()
    lines = body["sdp"].splitlines(keepends=True)
    bare = "".join(x for x in lines if not x.startswith(("a=candidate", "a=end-of")))
    texts = [x.strip()[2:] for x in lines if x.startswith("a=candidate")]

    async def send(candidate: dict[str, Any] | None) -> None:
        request = CandidateRequest(connection_id=client.webrtc_id, candidate=candidate)
        await host.connections.candidate(request)

    # the first overtakes the offer
    first = asyncio.create_task(
        send({"candidate": texts[0], "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "x"})
    )
    await asyncio.sleep(0.1)
    answer = await host.connections.offer(host.request(client.webrtc_id, bare))
    await first
    for text in texts[1:]:
        await send({"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0})
    await send(
        {
            "candidate": "candidate:1 1 udp 2113937151 6ba8c0ad-7b36-4b52-9d4d-b92c5e8a3f5f.local "
            "50000 typ host",
            "sdpMid": "0",
            "sdpMLineIndex": 0,
        }
    )
    await send(None)
    await client.accept({"sdp": answer.sdp, "type": "answer"})


async def test_trickled_candidates_connect_even_one_that_overtakes_its_offer() -> None:
    async with hosting(Echo()) as host:
        client = AiortcClient("")
        await connect_trickled(host, client)
        await until(lambda: client.samples)
        await client.close()
