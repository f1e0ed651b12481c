"""What a client may do to the video of its own call, and not to the others of its worker."""

import asyncio
import itertools
import struct
import threading
from typing import Any

import numpy as np
import pytest
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtp import RTCP_RTPFB_NACK, HeaderExtensions, RtcpRtpfbPacket, RtpPacket

from tests.clients import AiortcClient
from tests.workers.host import calling, hosting, until
from tests.workers.test_combinations import flip
from tests.workers.test_video_path import client_ends, ends
from tests.workers.test_vp8 import picture
from workers import video_receiver
from workers.codec_threads import CodecThreads
from workers.rtp import Packet
from workers.rtp_receiver import SOURCES
from workers.rtp_transport import connection_of
from workers.video_receiver import packets_broken
from workers.video_sender import RESEND_INTERVAL, VideoSender
from workers.vp8 import VP8Encoder


@pytest.fixture
async def raised() -> list[dict[str, Any]]:
    """What was raised to the loop."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    return errors


def packet(number: int, ssrc: int, payload: bytes = b"\x10\0\0\0") -> RtpPacket:
    made = RtpPacket(payload_type=97, sequence_number=number % 2**16, ssrc=ssrc, payload=payload)
    made.extensions = HeaderExtensions(abs_send_time=number * 2000 % 2**24)
    return made


async def send(client: AiortcClient, made: RtpPacket) -> None:
    transport = client_ends(client)[0].transport
    await transport._send_rtp(made.serialize(transport._rtp_header_extensions_map))


async def sent_again(sender: VideoSender, asked_for: bytes) -> list[bytes]:
    """The packets that a NACK has sent."""
    packets: list[bytes] = []
    connection = connection_of(sender.transport)
    connection.send_now = packets.append  # type: ignore[method-assign]
    try:
        message = struct.pack("!LL", 1, sender._ssrc) + asked_for
        await sender._handle_rtcp_packet(RtcpRtpfbPacket.parse(message, RTCP_RTPFB_NACK))
    finally:
        del connection.send_now
    return packets


async def test_sources_without_end(raised: list[Any]) -> None:
    """aiortc's estimate names them all, and one byte counts those of its message."""
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        _, receiver = ends(cn)
        await until(lambda: receiver._estimator.last_update_ms is not None)
        for ssrc in range(1000):
            await send(c, packet(ssrc, ssrc))
            if not ssrc % 50:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.7)
        await send(c, packet(1000, 1))
        await until(lambda: len(receiver._estimator.ssrcs) <= SOURCES)
    assert not raised


async def test_packets_without_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's estimate divides by the rate, which comes to zero."""
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (_, cn):
        _, receiver = ends(cn)
        monkeypatch.setattr(receiver, "_estimator", RemoteBitrateEstimator())
        now = sent = 0
        monkeypatch.setattr("workers.video_receiver.clock.current_ms", lambda: now)
        for number in range(900):
            sent = (sent + round(0.02 * 2**18)) % 2**24
            now += 20 + number // 28 % 2 * 5
            payload = bytes(3) if number < 342 else b""
            extensions = bytes([receiver._send_time << 4 | 2]) + sent.to_bytes(3, "big")
            receiver._estimate(Packet(97, number, 0, 1, payload, True, extensions))


async def test_datagrams_larger_than_any_packet(raised: list[Any]) -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        before = packets_broken._value.get()
        transport = client_ends(c)[0].transport
        await transport.transport._send(packet(1, 1, bytes(1600)).serialize())
        await until(lambda: packets_broken._value.get() > before)
    assert not raised


async def test_packets_are_sent_again_once_at_a_time() -> None:
    """Whatever a message asks for; one of 1400 bytes could ask for the same thousands of times."""
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await c.wait_for_pictures(5)
        sender, _ = ends(cn)
        newest = (sender._number - 1) % 2**16
        assert len(await sent_again(sender, struct.pack("!HH", newest, 0) * 300)) == 1
        await asyncio.sleep(2 * RESEND_INTERVAL)
        assert len(await sent_again(sender, struct.pack("!HH", newest, 0))) == 1


async def test_what_is_asked_for_behind_packet_65535_is_sent_again() -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await c.wait_for_pictures(2)
        sender, _ = ends(cn)
        sender._number = 65534
        await until(lambda: 2 < sender._number < 100)
        assert len(await sent_again(sender, struct.pack("!HH", 65535, 1))) == 2


async def test_a_picture_that_claims_to_be_huge_is_not_decoded() -> None:
    coded = bytearray(VP8Encoder(320, 240, 500_000).encode(picture(0), key=True))
    coded[6:10] = struct.pack("<HH", 16000, 16000)
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await c.wait_for_pictures(2)
        _, receiver = ends(cn)
        decoded: list[bytes] = []
        decode = receiver._decoder.decode

        def keep(frame: Any) -> Any:
            decoded.append(frame.data)
            return decode(frame)

        receiver._decoder.decode = keep
        before = packets_broken._value.get()
        made = packet(1, 7, b"\x10" + bytes(coded[:1100]))
        made.marker = 1
        await send(c, made)
        await until(lambda: packets_broken._value.get() > before)
        await until(lambda: decoded)
    assert bytes(coded[:1100]) not in decoded


async def test_a_new_source_without_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the first packets of a restarted track are lost: what follows would be shown on top
    of the picture before."""
    seen: list[Any] = []

    def look(frame: Any) -> Any:
        seen.append(frame)
        return frame

    encoder = VP8Encoder(320, 240, 500_000)
    coded = [encoder.encode(picture(number), key=number == 40) for number in range(50)]
    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        await until(lambda: len(seen) > 3)
        c.picture.stop()
        await asyncio.sleep(0.2)
        _, receiver = ends(cn)
        asked: list[int] = []
        monkeypatch.setattr(receiver, "_ask_for_key_frame", asked.append)
        before = len(seen)
        numbers = itertools.count(1)
        for frame, data in enumerate(coded[1:], 1):
            if frame == 40:
                assert asked
                assert len(seen) == before
            for at in range(0, len(data), 1000):
                begin = b"\x10" if not at else b"\0"
                made = packet(next(numbers), 9, begin + data[at : at + 1000])
                made.timestamp = 3000 * frame
                made.marker = int(at + 1000 >= len(data))
                await send(c, made)
            await asyncio.sleep(0.01)
        await until(lambda: len(seen) > before)


async def test_a_connection_that_is_behind_lets_others_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OneThread(CodecThreads):
        def __init__(self) -> None:
            super().__init__()
            self._threads._max_workers = 1  # type: ignore[attr-defined]

    threads = OneThread()
    seen: list[Any] = []

    def look(frame: Any) -> Any:
        seen.append(np.zeros(1))
        return frame

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (_, cn):
        _, receiver = ends(cn)
        await until(lambda: len(seen) > 3)
        monkeypatch.setattr(video_receiver, "codec_threads", lambda: threads)
        go = threading.Event()
        held = threads.submit(go.wait, 10)
        await until(lambda: len(receiver._encoded) > 10)
        left: list[int] = []
        other = threads.submit(lambda: left.append(len(receiver._encoded)))
        go.set()
        await asyncio.wrap_future(other)
        assert held.done()
        assert left[0] > 5, "all of one connection came before another's"
        before = len(seen)
        await until(lambda: not receiver._encoded and len(seen) > before)
    threads._threads.shutdown()
