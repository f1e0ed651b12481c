"""Video between a real client and a handler: loss both ways, key frames, what RTCP asks for."""

import asyncio
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RTCP_PSFB_APP, RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, pack_remb_fci

from tests.clients import AiortcClient, PictureTrack
from tests.workers.host import Host, calling, hosting, losing, until
from tests.workers.test_combinations import flip, is_flipped
from workers.connection import Connection
from workers.rtp_transport import connection_of
from workers.video_encoders import START_BITRATE
from workers.video_receiver import MAX_BEHIND, VideoReceiver, frames_skipped
from workers.video_sender import VideoSender


def ends(connection: Connection) -> tuple[VideoSender, VideoReceiver]:
    """This side's, of a call."""
    (transceiver,) = connection._transport._peer._connection.getTransceivers()  # type: ignore[attr-defined]
    assert isinstance(transceiver.sender, VideoSender)
    assert isinstance(transceiver.receiver, VideoReceiver)
    return transceiver.sender, transceiver.receiver


def client_ends(client: AiortcClient) -> tuple[Any, Any]:
    (transceiver,) = client.pc.getTransceivers()
    return transceiver.sender, transceiver.receiver


def record_requests(sender: Any) -> Counter[tuple[int, int]]:
    """What the client's sender is asked by RTCP from now on."""
    asked: Counter[tuple[int, int]] = Counter()
    handle = sender._handle_rtcp_packet

    async def handle_and_count(packet: Any) -> None:
        if hasattr(packet, "fmt"):
            asked[type(packet).__name__, packet.fmt] += 1
        await handle(packet)

    sender._handle_rtcp_packet = handle_and_count
    return asked


async def lose_for_good(
    client: AiortcClient, host: Host, monkeypatch: pytest.MonkeyPatch, packets: int
) -> Counter[tuple[int, int]]:
    """Lose every other packet from the client, which sends none again; what it was asked since."""
    sender, _ = client_ends(client)
    asked = record_requests(sender)

    async def refuse(number: int) -> None:
        pass

    monkeypatch.setattr(sender, "_retransmit", refuse)
    with losing(host, every=2) as count:
        await until(lambda: count[0] >= 2 * packets)
    return asked


NACK = ("RtcpRtpfbPacket", RTCP_RTPFB_NACK)
PLI = ("RtcpPsfbPacket", RTCP_PSFB_PLI)


async def test_lost_packets_are_sent_again_to_the_handler() -> None:
    shades: list[int] = []

    def look(frame: Any) -> Any:
        shades.append(PictureTrack.shade(frame))
        return frame

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        await until(lambda: len(shades) > 5)
        asked = record_requests(client_ends(c)[0])
        with losing(host, every=6) as count:
            await until(lambda: count[0] >= 60, timeout=30)
        seen = len(shades)
        await until(lambda: len(shades) > seen + 5)
        assert asked[NACK] >= 5
        assert asked[PLI] == 0
    steps = {(b - a) % PictureTrack.SHADES for a, b in itertools.pairwise(shades)}
    assert steps == {1}, "no frame is missing"


async def test_packets_that_the_client_misses_are_sent_again() -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await c.wait_for_pictures(5)
        sender, _ = ends(cn)
        connection = connection_of(sender.transport)
        send, count = connection.send_now, 0

        def lossy(data: bytes) -> None:
            nonlocal count
            count += 1
            if count % 6:
                send(data)

        connection.send_now = lossy  # type: ignore[method-assign]
        await until(lambda: count >= 90, timeout=30)
        connection.send_now = send  # type: ignore[method-assign]
        before = len(c.pictures)
        await c.wait_for_pictures(before + 5)
        assert all(is_flipped(picture) for picture in c.pictures[-5:])
        assert len(c.pictures) > 40


async def test_a_client_gets_the_key_frame_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await c.wait_for_pictures(5)
        sender, _ = ends(cn)
        first: list[bytes] = []
        send = sender._send

        def keep(payloads: list[bytes], timestamp: int) -> None:
            first.append(payloads[0])
            send(payloads, timestamp)

        monkeypatch.setattr(sender, "_send", keep)
        _, receiver = client_ends(c)
        for _ in range(5):
            await receiver._send_rtcp_pli(sender._ssrc)
        await until(lambda: len(first) > 20)
    keys = [not payload[4] & 1 for payload in first]
    assert sum(keys) == 1, "five requests at once need one key frame"
    assert keys.index(True) < 5


async def test_the_bit_rate_follows_the_client() -> None:
    def noise(frame: Any) -> Any:
        return random.integers(0, 255, (120, 160, 3), np.uint8)

    random = np.random.default_rng(1)
    rates: list[int] = []
    async with hosting(noise, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        sender, _ = ends(cn)
        assert sender._bitrate == START_BITRATE
        _, receiver = client_ends(c)
        receiver._RTCRtpReceiver__remote_bitrate_estimator = None  # it has its own opinion
        for bitrate in (900_000, 120_000):
            message = pack_remb_fci(bitrate, [sender._ssrc])
            await receiver._send_rtcp(RtcpPsfbPacket(RTCP_PSFB_APP, 1, 0, fci=message))
            await asyncio.sleep(1)
            before = sender._octets
            await asyncio.sleep(4)
            rates.append((sender._octets - before) * 8 // 4)
    assert 80_000 < rates[1] < 180_000, rates
    assert 600_000 < rates[0] < 1_100_000, rates


async def test_after_a_hole_the_handler_gets_whole_pictures_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes between the hole and the key frame refers to what is lost."""
    frames: list[Any] = []

    def look(frame: Any) -> Any:
        frames.append(frame)
        return frame

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        await until(lambda: len(frames) > 5)
        asked = await lose_for_good(c, host, monkeypatch, packets=3)
        before = len(frames)
        await until(lambda: len(frames) > before + 10)
        assert asked[PLI] >= 1
        shades = [PictureTrack.shade(frame) for frame in frames]
        assert all(abs(float(f[:, :140].mean()) - 255) < 8 for f in frames[before:])
        later = shades[before + 3 :]
        assert {(b - a) % PictureTrack.SHADES for a, b in itertools.pairwise(later)} == {1}


async def test_a_decoder_that_is_behind_goes_on_with_a_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for it must not fill the worker's memory, nor show the past."""
    seen: list[Any] = []

    def look(frame: Any) -> Any:
        seen.append(frame)
        return frame

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await until(lambda: len(seen) > 5)
        asked = record_requests(client_ends(c)[0])
        _, receiver = ends(cn)
        before = frames_skipped._value.get()
        with monkeypatch.context() as stuck:
            stuck.setattr(receiver, "_decode_waiting", lambda input: None)
            await until(lambda: frames_skipped._value.get() > before)
        assert frames_skipped._value.get() == before + MAX_BEHIND + 1
        assert not receiver._encoded
        await until(lambda: asked[PLI])
        count = len(seen)
        await until(lambda: len(seen) > count + 5)


async def test_the_client_learns_what_was_sent_and_received() -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        async with asyncio.timeout(15):
            while True:
                stats = {s.type: s for s in (await c.pc.getStats()).values()}
                if "remote-outbound-rtp" in stats and "remote-inbound-rtp" in stats:
                    break
                await asyncio.sleep(0.1)
        sent = stats["remote-outbound-rtp"].packetsSent
        assert 0 < sent <= stats["inbound-rtp"].packetsReceived + 5
        assert stats["remote-inbound-rtp"].packetsLost == 0
