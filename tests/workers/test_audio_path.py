"""Audio between a real client and a handler: every codec, loss, and what RTCP says of it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RtcpByePacket, RtcpSrPacket, compute_audio_level_dbov

from rayrtc import AsyncStreamHandler, OpusOptions, Stream
from tests.clients import AiortcClient
from tests.e2e.packets import Listener as PacketListener
from tests.e2e.spectrum import peak as frequency
from tests.workers.host import AsyncEcho, Echo, Host, calling, hosting, losing, peak, until
from workers.audio_sender import _level
from workers.pacer import Pacer
from workers.rtp_transport import connection_of, send_rtcp
from workers.samples import Samples


class Listener(AsyncStreamHandler):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=16000)
        self.heard: list[np.ndarray] = []

    def copy(self) -> "Listener":
        made = type(self)()
        LISTENING.append(made)
        return made

    async def receive(self, frame: Any) -> None:
        self.heard.append(frame[1][0])

    async def emit(self) -> None:
        await asyncio.Event().wait()


LISTENING: list[Listener] = []


async def call_with(host: Host, client: AiortcClient, codec: str) -> None:
    """A call in which the client offers one codec alone."""
    body = await client.create_offer()
    kept = {"PCMU": "0", "PCMA": "8", "G722": "9"}[codec]
    lines = []
    for line in body["sdp"].split("\r\n"):
        if line.startswith("m=audio"):
            lines.append(" ".join([*line.split()[:3], kept]))
        elif not line.startswith(("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")) or f":{kept} " in line:
            lines.append(line)
    answer = await host.connections.offer(host.request(client.webrtc_id, "\r\n".join(lines)))
    assert f"a=rtpmap:{kept} {codec}/8000" in answer.sdp
    assert "opus" not in answer.sdp
    await client.accept({"sdp": answer.sdp, "type": "answer"})


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
async def test_clients_without_opus_are_understood(codec: str) -> None:
    async with hosting(AsyncEcho()) as host:
        client = AiortcClient("")
        try:
            await call_with(host, client, codec)
            await client.hear(1.5)
            sound = np.concatenate(client.samples)
            rate = round(len(client.samples[-1]) / 0.02)
            assert frequency(sound[-rate:], rate) == pytest.approx(440, abs=5)
            assert np.abs(sound[-rate:]).max() > 6000
        finally:
            await client.close()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
async def test_a_handler_gets_and_gives_any_rate(rate: int) -> None:
    class AnyRate(AsyncEcho):
        def __init__(self) -> None:
            super().__init__()
            self.input_sample_rate = self.output_sample_rate = rate

    async with hosting(AnyRate()) as host, calling(host) as (client, _):
        await until(lambda: client.samples_since(1.2) > 48000)
        assert peak(client) == pytest.approx(440, abs=5)
        assert await client.packets_lost() == 0


async def test_a_synchronous_handlers_sound_leaves_on_its_thread_while_the_loop_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both use one SRTP session: a packet of theirs that is damaged is lost at the client."""
    # what comes in a burst on a loaded test machine is due as well, and does not wait for the clock
    monkeypatch.setattr("workers.playback._EARLY", 10.0)
    async with hosting(Echo()) as host, calling(host) as (client, connection):
        reports = 0
        senders = set()
        (sender,) = connection._transport._peer._connection.getSenders()  # type: ignore[attr-defined]
        way = connection_of(sender.transport)
        send_now = way.send_now

        def watched(data: bytes) -> None:
            if not 64 <= data[1] & 0x7F < 96:  # else RTCP (RFC 5761, 4)
                senders.add(threading.get_ident())
            send_now(data)

        way.send_now = watched  # type: ignore[method-assign]
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            send_rtcp(sender.transport, RtcpByePacket(sources=[1]))
            reports += 1
            await asyncio.sleep(0)
        assert reports > 500
        assert senders
        assert threading.get_ident() not in senders
        assert peak(client) == pytest.approx(440, abs=5)
        assert await client.packets_lost() == 0


async def test_stereo_arrives_as_stereo() -> None:
    class LeftAlone(AsyncStreamHandler):
        def copy(self) -> "LeftAlone":
            return LeftAlone()

        async def receive(self, frame: Any) -> None:
            pass

        async def emit(self) -> Any:
            wave = np.sin(2 * np.pi * 500 * np.arange(480) / 24000) * 12000
            sound = np.zeros((2, 480), np.int16)
            sound[0] = wave
            return 24000, sound, "stereo"

    async with hosting(LeftAlone(), opus=OpusOptions(bitrate=128_000)) as host:
        client = AiortcClient("")
        frames: list[np.ndarray] = []
        client._keep = lambda track: keep(track, frames)  # type: ignore[method-assign]
        await host.call(client)
        await until(lambda: len(frames) > 40)
        await client.close()
    left, right = np.concatenate(frames[-20:], axis=1).reshape(-1, 2).T.astype(float)
    assert np.abs(left).max() > 8000
    assert np.abs(right).max() < 1000


async def keep(track: Any, frames: list[np.ndarray]) -> None:
    while True:
        frames.append((await track.recv()).to_ndarray())


async def test_what_is_lost_is_concealed_and_reported() -> None:
    LISTENING.clear()
    async with hosting(Listener(), mode="send") as host, calling(host) as (client, _):
        handler = LISTENING[-1]
        await until(lambda: len(handler.heard) > 20)
        before = len(handler.heard)
        with losing(host, every=5) as count:
            await until(lambda: count[0] >= 100, timeout=20)
        await until(lambda: len(handler.heard) - before >= 95)
        sound = np.concatenate(handler.heard[before : before + 95])
        quiet = [abs(part).max() < 1000 for part in np.split(sound, 95)]
        assert not any(quiet), "a tone goes on over a lost packet"
        assert frequency(sound, 16000) == pytest.approx(440, abs=5)

        async def reported() -> int:
            stats = await client.pc.getStats()
            return max((s.packetsLost for s in stats.values() if "remote-in" in s.type), default=0)

        async with asyncio.timeout(10):
            while not 15 <= await reported() <= 25:
                await asyncio.sleep(0.1)


async def test_the_client_learns_what_was_sent() -> None:
    async with hosting(Echo()) as host, calling(host) as (client, _):
        async with asyncio.timeout(10):
            while True:
                stats = {s.type: s for s in (await client.pc.getStats()).values()}
                if (sent := stats.get("remote-outbound-rtp")) and sent.packetsSent > 50:
                    break
                await asyncio.sleep(0.1)
        assert abs(stats["inbound-rtp"].packetsReceived - sent.packetsSent) < 100
        assert sent.bytesSent / sent.packetsSent == pytest.approx(100, rel=0.3)


async def test_reports_tell_when_the_last_packet_was_sent() -> None:
    """Browsers play sound and pictures together by them, also after a silence."""

    class Word(AsyncStreamHandler):
        """Says one word."""

        def copy(self) -> "Word":
            return Word()

        async def start_up(self) -> None:
            self.said = 0

        async def receive(self, frame: Any) -> None:
            pass

        async def emit(self) -> Any:
            self.said += 1
            return (24000, np.full(480, 1000, np.int16)) if self.said <= 10 else None

    async with hosting(Word()) as host:
        client = AiortcClient("")
        packets: list[Any] = []
        reports: list[Any] = []
        await client.create_offer()
        (transceiver,) = client.pc.getTransceivers()
        receiver: Any = transceiver.receiver
        take, hear = receiver._handle_rtcp_packet, receiver._handle_rtp_packet

        async def handle_rtcp(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                reports.append((time.time(), packet.sender_info))
            await take(packet)

        async def handle_rtp(packet: Any, arrival_time_ms: int) -> None:
            packets.append((time.time(), packet.timestamp))
            await hear(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtcp_packet, receiver._handle_rtp_packet = handle_rtcp, handle_rtp
        offer = client.pc.localDescription.sdp
        answer = await host.connections.offer(host.request(client.webrtc_id, offer))
        await client.accept({"sdp": answer.sdp, "type": "answer"})
        await until(lambda: len(packets) >= 10)
        await until(lambda: reports and reports[-1][0] - packets[-1][0] > 1)
        await client.close()
    sent = reports[-1][1].ntp_timestamp / 2**32 - 2_208_988_800
    assert sent == pytest.approx(packets[-1][0], abs=0.1)
    assert reports[-1][1].rtp_timestamp == packets[-1][1]


async def test_a_stream_says_how_its_sound_is_coded() -> None:
    async with (
        hosting(Echo(), opus=OpusOptions(bitrate=12_000, application="voip")) as host,
        calling(host) as (client, _),
    ):
        async with asyncio.timeout(10):
            while True:
                stats = {s.type: s for s in (await client.pc.getStats()).values()}
                if (sent := stats.get("remote-outbound-rtp")) and sent.packetsSent > 50:
                    break
                await asyncio.sleep(0.1)
        assert sent.bytesSent / sent.packetsSent == pytest.approx(30, rel=0.4)


@pytest.mark.parametrize("amplitude", [0, 1, 100, 5000, 32767])
def test_the_audio_level_is_aiortcs(amplitude: int) -> None:
    samples = Samples(48000, 1, (np.sin(np.arange(960) / 7) * amplitude).astype(np.int16))
    expected = -compute_audio_level_dbov(samples.to_frame())
    assert abs(_level(samples.data.tobytes()) - expected) <= 1


async def test_packets_after_a_silence_have_the_time_of_their_sound() -> None:
    """One that seems to be late by the gap makes Chromium delay all sound by about as much."""

    class Words(AsyncStreamHandler):
        """Says two words."""

        def copy(self) -> "Words":
            return Words()

        async def start_up(self) -> None:
            self.said = 0

        async def receive(self, frame: Any) -> None:
            pass

        async def emit(self) -> Any:
            self.said += 1
            if self.said == 11:
                await asyncio.sleep(0.8)
            return (24000, np.full(480, 1000, np.int16)) if self.said <= 20 else None

    async with hosting(Words()) as host:
        client = PacketListener("")
        stamps: list[tuple[float, int]] = []

        async def count(packet: Any, arrival_time_ms: int) -> None:
            stamps.append((time.monotonic(), packet.timestamp))

        client._count = count  # type: ignore[method-assign]
        await host.call(client)
        await until(lambda: len(stamps) >= 20)
        await client.close()
    passed = stamps[-1][0] - stamps[0][0]
    assert passed > 0.8
    assert (stamps[-1][1] - stamps[0][1]) % 2**32 / 48000 == pytest.approx(passed, abs=0.1)


def test_opus_options_belong_to_the_stream() -> None:
    assert Stream(Echo(), modality="audio").opus == OpusOptions()


async def test_the_clock_of_a_worker_rests_between_frames_and_after_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is asked again and again for what is not due, or never comes, takes a whole core."""
    asked: list[float] = []
    at = Pacer.at

    def counting(pacer: Pacer, due: float, member: Any) -> None:
        asked.append(due)
        at(pacer, due, member)

    async def talk() -> AsyncIterator[Any]:
        while True:
            yield 24000, np.full((1, 4800), 1000, np.int16)

    monkeypatch.setattr(Pacer, "at", counting)
    async with hosting(talk, mode="receive") as host:
        async with calling(host, direction="recvonly") as (client, _):
            await client.hear(0.5)
            begin = len(asked)
            await asyncio.sleep(1.0)
            assert 20 < len(asked) - begin < 80  # frames of 20 ms
        await asyncio.sleep(0.1)
        begin = len(asked)
        await asyncio.sleep(0.2)
        assert len(asked) == begin
