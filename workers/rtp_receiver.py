"""What the receivers of audio and of video have in common: packets, statistics, reports.

They stand in for aiortc's receiver, which decodes on a thread for each connection, and where a
packet passes a queue and several coroutines before. Negotiation, DTLS and RTCP's routes are
aiortc's.
"""

import asyncio
import random
import time
from typing import Any

import pylibsrtp
from aiortc import MediaStreamTrack, RTCDtlsTransport, clock
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket, RtcpSrPacket
from aiortc.stats import RTCInboundRtpStreamStats, RTCStatsReport
from prometheus_client import Counter

from workers import rtp
from workers.ice_connection import SharedPortConnection
from workers.media_metrics import Tally
from workers.rtp_transport import connection_of, send_rtcp

REPORT_INTERVAL = 1.0
"""Seconds between two receiver reports, times 0.5 to 1.5 (RFC 3550, 6.3.1)."""
SOURCES = 8
"""Synchronization sources that one connection may have; a page that restarts its track has more."""


class RtpReceiver:
    """In place of `aiortc.RTCRtpReceiver` at the worker's port.

    Attributes:
        broken: counts the packets that could not be authenticated, read or decoded.
    """

    kind: str
    broken: Counter

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self.transport = transport
        self._enabled = True
        self._track: MediaStreamTrack | None = None
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._sources: dict[int, StreamStatistics] = {}
        self._packets = 0
        self._octets = 0
        self._lost = 0  # of sources that are no longer kept
        self._tally = Tally(self.kind, "received")
        self._last_report: dict[int, tuple[int, float]] = {}
        self._rtcp_ssrc = 0
        self._reporting: asyncio.Task[None] | None = None

    def _take(self, packet: rtp.Packet, new: bool) -> None:
        """Take a packet.

        Args:
            new: it is the first of its source.
        """
        raise NotImplementedError

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
        self._count()

    @property
    def _connection(self) -> SharedPortConnection:
        return connection_of(self.transport)

    def _received(self, data: bytes) -> None:
        """Take an encrypted packet."""
        if not self._enabled:
            return
        try:
            packet = rtp.parse(self.transport._rx_srtp.unprotect(data))
        except (pylibsrtp.Error, ValueError):  # the latter also if it is longer than any packet
            self.broken.inc()
            return
        new = (source := self._sources.get(packet.ssrc)) is None
        if source is None:
            if len(self._sources) >= SOURCES:
                gone = self._sources.pop(next(iter(self._sources)))
                self._lost += max(0, gone.packets_lost)
            clock_rate = self._codecs[packet.payload_type].clockRate
            source = self._sources[packet.ssrc] = StreamStatistics(clock_rate)
        source.add(packet)  # type: ignore[arg-type]
        self._packets += 1
        self._octets += len(packet.payload)
        self._take(packet, new)

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
            if self._sources:
                self._count()
                reports = [self._block(ssrc, source) for ssrc, source in self._sources.items()]
                send_rtcp(self.transport, RtcpRrPacket(ssrc=self._rtcp_ssrc, reports=reports))

    def _count(self) -> None:
        """Bring the worker's metrics up to date."""
        lost = sum(max(0, source.packets_lost) for source in self._sources.values())
        self._tally.tell(self._packets, self._octets, self._lost + lost)
        for source in self._sources.values():
            self._tally.jitter(source.jitter / source._clockrate)

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
