"""Sends the audio of a connection: coded, encrypted and sent in one call when it is due.

It stands in for aiortc's sender, where each frame passes a track, a thread that codes, a packet
object and several coroutines. Negotiation, DTLS and RTCP's routes are aiortc's.
"""

import asyncio
import math
import random
import time
import uuid
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack, RTCDtlsTransport, clock
from aiortc.codecs import get_encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import (
    RtcpByePacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from aiortc.stats import RTCOutboundRtpStreamStats, RTCStatsReport
from aiortc.utils import random16, random32
from av import FFmpegError
from prometheus_client import Counter

from rayrtc.opus import OpusOptions
from workers.audio import AudioOutput
from workers.ice_connection import SharedPortConnection
from workers.opus import CLOCK_RATE, OpusEncoder, OpusError
from workers.pacer import TICK, pacer_of
from workers.playback import FRAME_TIME, Chunk
from workers.rtp import Header, ntp_time
from workers.samples import Samples

REPORT_INTERVAL = 1.0
"""Seconds between two sender reports, times 0.5 to 1.5 (RFC 3550, 6.3.1)."""
_CNAME = 1  # RFC 3550, 6.5.1

frames_uncoded = Counter(
    "rayrtc_worker_audio_frames_uncoded_total",
    "Frames of 20 ms that no codec would take, and that were not sent.",
)


class AudioSender:
    """In place of `aiortc.RTCRtpSender` for audio at the worker's port.

    Args:
        track: what is sent, or nothing yet.
        transport: aiortc's.
    """

    kind = "audio"

    def __init__(self, track: MediaStreamTrack | None, transport: RTCDtlsTransport) -> None:
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._pacer = pacer_of(self._loop)
        self._ssrc = random32()
        self._rtx_ssrc = random32()
        self._stream_id = str(uuid.uuid4())
        self._enabled = True
        self.replaceTrack(track)
        self._header: Header | None = None
        self._codec: _Codec | None = None
        # the lower half, as a wrap soon after the first packet breaks SRTP (RFC 3711, 3.3.1)
        self._number = random16() >> 1
        self._timestamp = random32()
        self._clock_rate = CLOCK_RATE
        self._next: float | None = None  # loop time of the pacer's next call
        self._started = False
        self._sent_at = 0.0
        self._sent_timestamp = 0
        self._packets = 0
        self._octets = 0
        self._cname = ""
        self._reporting: asyncio.Task[None] | None = None

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        self.track = track
        self._track_id = track.id if track is not None else str(uuid.uuid4())

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        self.transport = transport

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """DTLS is connected: send what the track has."""
        track = self.track
        if self._reporting is not None or not isinstance(track, AudioOutput):
            return
        codec = parameters.codecs[0]
        assert codec.payloadType is not None
        self._codec = _codec(codec, track.opus)
        self._clock_rate = codec.clockRate
        self._header = Header(
            codec.payloadType, self._ssrc, parameters.muxId, parameters.headerExtensions
        )
        self._cname = parameters.rtcp.cname or ""
        self.transport._register_rtp_sender(self, parameters)
        self._reporting = asyncio.create_task(self._report())
        track.on_filled(self._filled)
        self._filled()

    async def stop(self) -> None:
        if self._reporting is None:
            return
        self.transport._unregister_rtp_sender(self)
        self._codec = None
        self._reporting.cancel()
        await asyncio.wait([self._reporting])
        await self._send_rtcp(RtcpByePacket(sources=[self._ssrc]))

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
        """A receiver's report; nothing depends on it. What is lost is not sent again."""

    def _filled(self) -> None:
        self._send_due(self._loop.time())

    def _tick(self, now: float) -> None:
        if self._next is not None and now >= self._next - TICK:  # else an earlier one came between
            self._next = None
            self._send_due(now)

    def _send_due(self, now: float) -> None:
        track = self.track
        if not isinstance(track, AudioOutput) or self._codec is None:
            return
        while (chunk := track.take(now)) is not None:
            self._send(chunk)
        when = track.next_at
        if when is not None and (self._next is None or when < self._next - TICK):
            self._next = when
            self._pacer.at(when, self._tick)

    def _send(self, chunk: Chunk) -> None:
        assert self._codec is not None
        assert self._header is not None
        self._timestamp += round(chunk.gap * self._clock_rate)
        if self._enabled and self.transport.state == "connected":
            level = _level(chunk.pcm) if self._header.wants_level else 0
            marker = not self._started or chunk.gap > 0
            try:
                payloads = self._codec.encode(chunk)
            except (OpusError, FFmpegError):
                frames_uncoded.inc()
                payloads = []
            for payload in payloads:
                timestamp = self._timestamp & 0xFFFFFFFF
                packet = self._header.pack(self._number, timestamp, marker, level) + payload
                self._connection.send_now(self.transport._tx_srtp.protect(packet))
                self._number = (self._number + 1) & 0xFFFF
                self._packets += 1
                self._octets += len(payload)
                self._sent_at, self._sent_timestamp = time.time(), timestamp
                self._started = True
        self._timestamp += round(FRAME_TIME * self._clock_rate)

    @property
    def _connection(self) -> SharedPortConnection:
        connection = self.transport.transport._connection
        assert isinstance(connection, SharedPortConnection)
        return connection

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL * random.uniform(0.5, 1.5))
            if not self._packets:
                continue
            # the two clocks at one moment, by which sound and pictures are played together
            info = RtcpSenderInfo(
                ntp_timestamp=ntp_time(self._sent_at),
                rtp_timestamp=self._sent_timestamp,
                packet_count=self._packets & 0xFFFFFFFF,
                octet_count=self._octets & 0xFFFFFFFF,
            )
            name = RtcpSourceInfo(ssrc=self._ssrc, items=[(_CNAME, self._cname.encode())])
            await self._send_rtcp(
                RtcpSrPacket(ssrc=self._ssrc, sender_info=info), RtcpSdesPacket(chunks=[name])
            )

    async def _send_rtcp(self, *packets: Any) -> None:
        try:
            await self.transport._send_rtp(b"".join(map(bytes, packets)))
        except ConnectionError:
            pass  # it is closing


def _level(pcm: bytes) -> int:
    """-dBov of 16-bit samples, 0 to 127 for silence (RFC 6464, 3)."""
    samples = np.frombuffer(pcm, np.int16).astype(np.float32)
    power = float(np.dot(samples, samples)) / samples.size
    if power < 1:
        return 127
    return min(127, max(0, round(-10 * math.log10(power / 32767**2))))


class _OpusCodec:
    def __init__(self, options: OpusOptions) -> None:
        self._options = options
        self._encoder: OpusEncoder | None = None

    def encode(self, chunk: Chunk) -> list[bytes]:
        encoder = self._encoder
        if encoder is None or (encoder.rate, encoder.channels) != (chunk.rate, chunk.channels):
            encoder = self._encoder = OpusEncoder(chunk.rate, chunk.channels, self._options)
        return [encoder.encode(chunk.pcm)]


class _OtherCodec:
    """G.711 and G.722 by aiortc."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._encoder = get_encoder(codec)
        self._pts = 0

    def encode(self, chunk: Chunk) -> list[bytes]:
        samples = Samples(chunk.rate, chunk.channels, np.frombuffer(chunk.pcm, np.int16))
        frame = samples.to_frame()
        frame.pts = self._pts
        self._pts += frame.samples
        return self._encoder.encode(frame)[0]


_Codec = _OpusCodec | _OtherCodec


def _codec(codec: RTCRtpCodecParameters, options: OpusOptions) -> _Codec:
    if codec.mimeType.lower() == "audio/opus":
        return _OpusCodec(options)
    return _OtherCodec(codec)
