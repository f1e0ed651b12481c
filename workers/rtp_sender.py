"""What the senders of audio and of video have in common: packets, reports, their end.

They stand in for aiortc's sender, where each frame passes a track, a thread that codes, a packet
object and several coroutines. Negotiation, DTLS and RTCP's routes are aiortc's.
"""

import asyncio
import random
import time
import uuid
from typing import Any

from aiortc import MediaStreamTrack, RTCDtlsTransport, clock
from aiortc.rtcdtlstransport import State
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import (
    RtcpByePacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from aiortc.stats import RTCOutboundRtpStreamStats, RTCStatsReport
from aiortc.utils import random16, random32

from workers.media_metrics import Tally, round_trip_seconds
from workers.rtp import Header, ntp_time
from workers.rtp_transport import connection_of, send_rtcp, send_rtp

REPORT_INTERVAL = 1.0
"""Seconds between two sender reports, times 0.5 to 1.5 (RFC 3550, 6.3.1)."""
ROUND_TRIP_MAX = 60.0
"""Seconds; a longer round trip, or one below zero, is an error of the client."""
_CNAME = 1  # RFC 3550, 6.5.1


class RtpSender:
    """In place of `aiortc.RTCRtpSender` at the worker's port.

    Args:
        track: what is sent, or nothing yet.
        transport: aiortc's.
    """

    kind: str

    def __init__(self, track: MediaStreamTrack | None, transport: RTCDtlsTransport) -> None:
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._ssrc = random32()
        self._rtx_ssrc = random32()
        self._stream_id = str(uuid.uuid4())
        self._enabled = True
        self.replaceTrack(track)
        self._header: Header | None = None
        # the lower half, as a wrap soon after the first packet breaks SRTP (RFC 3711, 3.3.1)
        self._number = random16() >> 1
        self._sent = 0.0, 0  # when, and its timestamp, of the last packet
        self._packets = 0
        self._octets = 0
        self._lost = 0  # by the client's reports
        self._clock_rate = 0
        self._tally = Tally(self.kind, "sent")
        self._cname = ""
        self._reporting: asyncio.Task[None] | None = None

    def _begin(self, parameters: RTCRtpSendParameters) -> None:
        """Send what the track has from now on."""
        raise NotImplementedError

    async def _end(self) -> None:
        """Send nothing more."""
        raise NotImplementedError

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        self.track = track
        self._track_id = track.id if track is not None else str(uuid.uuid4())

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        self.transport = transport

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """DTLS is connected: send what the track has."""
        if self._reporting is not None or self.track is None:
            return
        codec = parameters.codecs[0]
        assert codec.payloadType is not None
        self._clock_rate = codec.clockRate
        self._header = Header(
            codec.payloadType, self._ssrc, parameters.muxId, parameters.headerExtensions
        )
        self._cname = parameters.rtcp.cname or ""
        self._connection = connection_of(self.transport)
        self.transport._register_rtp_sender(self, parameters)
        self._reporting = asyncio.create_task(self._report())
        self._begin(parameters)

    async def stop(self) -> None:
        if self._reporting is None:
            return
        self.transport._unregister_rtp_sender(self)
        await self._end()
        self._reporting.cancel()
        await asyncio.wait([self._reporting])
        self._tally.tell(self._packets, self._octets, self._lost)
        send_rtcp(self.transport, RtcpByePacket(sources=[self._ssrc]))

    async def getStats(self) -> RTCStatsReport:
        """What was sent."""
        report = RTCStatsReport()
        report.add(
            RTCOutboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="outbound-rtp",
                id=f"outbound-rtp_{id(self)}",
                ssrc=self._ssrc,
                kind=self.kind,
                transportId=self.transport._stats_id,
                packetsSent=self._packets,
                bytesSent=self._octets,
                trackId=self._track_id,
            )
        )
        return report

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        """A receiver's report, or what it asks for."""
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._ssrc:
                    self._take_report(report)

    def _take_report(self, report: RtcpReceiverInfo) -> None:
        """What the client has received (RFC 3550, 6.4.1)."""
        self._lost = max(self._lost, min(report.packets_lost, self._packets))
        self._tally.jitter(report.jitter / self._clock_rate)
        if report.lsr:
            middle = ntp_time(time.time()) >> 16
            round_trip = (middle - report.lsr - report.dlsr & 0xFFFFFFFF) / 2**16
            if round_trip < ROUND_TRIP_MAX:
                round_trip_seconds.labels(self.kind).observe(round_trip)

    @property
    def _can_send(self) -> bool:
        # aiortc's `state` makes a string of it each time
        return self._enabled and self.transport._state is State.CONNECTED

    def _send_packet(self, payload: bytes, timestamp: int, marker: bool, level: int = 0) -> bytes:
        """Send a payload; the packet as it was before its encryption.

        Args:
            level: of audio, as `Header.pack`.
        """
        assert self._header is not None
        packet = self._header.pack(self._number, timestamp, marker, level) + payload
        send_rtp(self.transport, self._connection, packet)
        self._number = (self._number + 1) & 0xFFFF
        self._sent = time.time(), timestamp  # before it counts: a report may be made meanwhile
        self._packets += 1
        self._octets += len(payload)
        return packet

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL * random.uniform(0.5, 1.5))
            if not self._packets:
                continue
            self._tally.tell(self._packets, self._octets, self._lost)
            # the two clocks at one moment, by which sound and pictures are played together
            sent_at, timestamp = self._sent
            info = RtcpSenderInfo(
                ntp_timestamp=ntp_time(sent_at),
                rtp_timestamp=timestamp,
                packet_count=self._packets & 0xFFFFFFFF,
                octet_count=self._octets & 0xFFFFFFFF,
            )
            name = RtcpSourceInfo(ssrc=self._ssrc, items=[(_CNAME, self._cname.encode())])
            send_rtcp(
                self.transport,
                RtcpSrPacket(ssrc=self._ssrc, sender_info=info),
                RtcpSdesPacket(chunks=[name]),
            )
