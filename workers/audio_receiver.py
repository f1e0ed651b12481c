"""Receives the audio of a connection: each packet goes from the socket to the handler's input in
one call.

It stands in for aiortc's receiver, which decodes on a thread for each connection, and where a
packet passes a queue and several coroutines before. Negotiation, DTLS and RTCP's routes are
aiortc's.
"""

import asyncio
import random
import time
from typing import Any

import pylibsrtp
from aiortc import MediaStreamTrack, RTCDtlsTransport, clock
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket, RtcpSrPacket
from aiortc.stats import RTCInboundRtpStreamStats, RTCStatsReport
from av import FFmpegError
from prometheus_client import Counter

from workers import rtp
from workers.audio import AudioInput
from workers.ice_connection import SharedPortConnection
from workers.opus import RATES, OpusDecoder, OpusError
from workers.packet_order import PacketOrder
from workers.samples import Samples

REPORT_INTERVAL = 1.0
"""Seconds between two receiver reports, times 0.5 to 1.5 (RFC 3550, 6.3.1)."""
SOURCES = 8
"""Synchronization sources that one connection may have; a page that restarts its track has more."""

packets_broken = Counter(
    "rayrtc_worker_audio_packets_broken_total",
    "Received audio packets that could not be authenticated, read or decoded.",
)


class AudioReceiver:
    """In place of `aiortc.RTCRtpReceiver` for audio at the worker's port."""

    kind = "audio"

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self.transport = transport
        self._enabled = True
        self._track: MediaStreamTrack | None = None
        self._input: AudioInput | None = None
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._order = PacketOrder[rtp.Packet]()
        self._decoder: _Decoder | None = None
        self._decodes = -1  # payload type
        self._sources: dict[int, StreamStatistics] = {}
        self._last_report: dict[int, tuple[int, float]] = {}
        self._rtcp_ssrc = 0
        self._reporting: asyncio.Task[None] | None = None

    def feed(self, input: AudioInput) -> None:
        """Give what is received to `input` from now on."""
        self._input = input

    @property
    def track(self) -> MediaStreamTrack | None:
        """Stands for what is received; nothing can be read from it."""
        return self._track

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        self.transport = transport

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._rtcp_ssrc = ssrc

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """DTLS is connected: take packets."""
        if self._reporting is not None:
            return
        self._codecs = {c.payloadType: c for c in parameters.codecs if c.payloadType is not None}
        self.transport._register_rtp_receiver(self, parameters)
        self._connection.sinks.update(dict.fromkeys(self._codecs, self._received))
        self._reporting = asyncio.create_task(self._report())

    async def stop(self) -> None:
        if self._reporting is None:
            return
        self.transport._unregister_rtp_receiver(self)
        for payload_type in self._codecs:
            self._connection.sinks.pop(payload_type, None)
        self._reporting.cancel()
        await asyncio.wait([self._reporting])

    @property
    def _connection(self) -> SharedPortConnection:
        connection = self.transport.transport._connection
        assert isinstance(connection, SharedPortConnection)
        return connection

    def _received(self, data: bytes) -> None:
        """Take an encrypted packet."""
        if not self._enabled or self._input is None:
            return
        try:
            packet = rtp.parse(self.transport._rx_srtp.unprotect(data))
        except (pylibsrtp.Error, rtp.RtpError):
            packets_broken.inc()
            return
        if (source := self._sources.get(packet.ssrc)) is None:
            if len(self._sources) >= SOURCES:
                self._sources.pop(next(iter(self._sources)))
            clock_rate = self._codecs[packet.payload_type].clockRate
            source = self._sources[packet.ssrc] = StreamStatistics(clock_rate)
            self._order = PacketOrder()
        source.add(packet)  # type: ignore[arg-type]
        lost = 0
        for due in self._order.add(packet.sequence_number, packet):
            if due is None:
                lost += 1
            else:
                self._decode(due, lost, self._input)
                lost = 0

    def _decode(self, packet: rtp.Packet, lost: int, input: AudioInput) -> None:
        """Give a packet's sound to the handler, after what stands for those lost before it."""
        try:
            if self._decoder is None or packet.payload_type != self._decodes:
                self._decoder = _decoder(self._codecs[packet.payload_type], input)
                self._decodes = packet.payload_type
                lost = 0
            for missing in range(lost, 0, -1):
                self._decoder.conceal(packet.payload if missing == 1 else b"", input)
            self._decoder.decode(packet, input)
        except (OpusError, FFmpegError):
            packets_broken.inc()

    async def getStats(self) -> RTCStatsReport:
        """What has come, for each source."""
        report = RTCStatsReport()
        for ssrc, source in self._sources.items():
            report.add(
                RTCInboundRtpStreamStats(
                    timestamp=clock.current_datetime(),
                    type="inbound-rtp",
                    id=f"inbound-rtp_{id(self)}_{ssrc}",
                    ssrc=ssrc,
                    kind=self.kind,
                    transportId=self.transport._stats_id,
                    packetsReceived=source.packets_received,
                    packetsLost=source.packets_lost,
                    jitter=source.jitter,
                )
            )
        return report

    def _handle_disconnect(self) -> None:
        """Of DTLS; its connection sees it, too."""

    async def _handle_rtp_packet(self, packet: Any, arrival_time_ms: int) -> None:
        """One that came before `receive`, and so before anybody listens."""

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            middle = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
            self._last_report = {packet.ssrc: (middle, time.time())}

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL * random.uniform(0.5, 1.5))
            if not self._sources:
                continue
            reports = [self._block(ssrc, source) for ssrc, source in self._sources.items()]
            packet = RtcpRrPacket(ssrc=self._rtcp_ssrc, reports=reports)
            try:
                await self.transport._send_rtp(bytes(packet))
            except ConnectionError:
                return

    def _block(self, ssrc: int, source: StreamStatistics) -> RtcpReceiverInfo:
        """What is reported of a source (RFC 3550, 6.4.1)."""
        middle, arrived = self._last_report.get(ssrc, (0, 0.0))
        delay = time.time() - arrived if middle else 0.0
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=source.fraction_lost,
            packets_lost=source.packets_lost,
            highest_sequence=source.max_seq or 0,
            jitter=source.jitter,
            lsr=middle,
            dlsr=round(delay * 65536) if 0 < delay < 65536 else 0,
        )


class _OpusDecoder:
    def __init__(self, input: AudioInput) -> None:
        # libopus gives the handler's rate itself if it can
        self._rate = input.rate if input.rate in RATES else RATES[-1]
        self._channels = input.channels
        self._decoder = OpusDecoder(self._rate, self._channels)
        self._last = self._rate // 50

    def decode(self, packet: rtp.Packet, input: AudioInput) -> None:
        samples = self._decoder.decode(packet.payload)
        self._last = samples.size // self._channels
        input.put(Samples(self._rate, self._channels, samples))

    def conceal(self, following: bytes, input: AudioInput) -> None:
        samples = self._decoder.conceal(self._last, following)
        input.put(Samples(self._rate, self._channels, samples))


class _OtherDecoder:
    """G.711 and G.722 by aiortc."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._decoder = get_decoder(codec)

    def decode(self, packet: rtp.Packet, input: AudioInput) -> None:
        for frame in self._decoder.decode(JitterFrame(packet.payload, packet.timestamp)):
            input.convert(frame)  # type: ignore[arg-type]

    def conceal(self, following: bytes, input: AudioInput) -> None:
        """A hole stays one."""


_Decoder = _OpusDecoder | _OtherDecoder


def _decoder(codec: RTCRtpCodecParameters, input: AudioInput) -> _Decoder:
    if codec.mimeType.lower() == "audio/opus":
        return _OpusDecoder(input)
    return _OtherDecoder(codec)
