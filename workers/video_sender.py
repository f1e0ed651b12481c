"""Sends the video of a connection: coded on the worker's codec threads, then sent at once.

A function's frame is coded on its own thread if it is due. While one is being coded newer ones
replace each other in the track, so that nothing grows stale here. The bit rate follows what the
client reports, the speed what the worker can do.
"""

import asyncio
import threading
from functools import partial
from typing import Any, NamedTuple

from aiortc import MediaStreamTrack, RTCDtlsTransport
from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    unpack_remb_fci,
)
from aiortc.utils import random16, random32
from av import FFmpegError
from av.video.frame import VideoFrame
from prometheus_client import Counter

from workers.changes import tell
from workers.codec_threads import codec_threads
from workers.rtp import Header
from workers.rtp_sender import RtpSender
from workers.rtp_transport import send_rtp
from workers.video import VideoOutput
from workers.video_encoders import START_BITRATE, VideoEncoder, encoder_of
from workers.vp8 import SPEED, SPEED_BEHIND

HISTORY = 256
"""Packets that can be sent again: those of more than a second at the usual bit rates."""
RESEND_INTERVAL = 0.05
"""Seconds until a packet is sent again once more, however often a client asks for it."""
KEY_FRAME_INTERVAL = 0.3
"""Seconds between two key frames that a client asks for; each is as large as many others."""

frames_uncoded = Counter(
    "rayrtc_worker_video_frames_uncoded_total",
    "Frames of video that no codec would take, and that were not sent.",
)


class _Sent(NamedTuple):
    number: int
    timestamp: int
    marker: bool
    payload: bytes


class VideoSender(RtpSender):
    """Sends the frames of a track."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack | None, transport: RTCDtlsTransport) -> None:
        super().__init__(track, transport)
        self._origin = random32()
        self._bitrate = START_BITRATE
        self._key_frame_wanted = False
        self._key_frame_at = float("-inf")
        self._history: list[_Sent | None] = [None] * HISTORY
        self._resent_at = [float("-inf")] * HISTORY
        self._resent: Header | None = None
        self._resent_number = random16() >> 1
        self._sending: asyncio.Task[None] | None = None
        self._encoder: VideoEncoder | None = None
        self._coding = threading.Lock()

    def _begin(self, parameters: RTCRtpSendParameters) -> None:
        codec = parameters.codecs[0]
        for other in parameters.codecs:
            if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                assert other.payloadType is not None
                self._resent = Header(
                    other.payloadType, self._rtx_ssrc, parameters.muxId, parameters.headerExtensions
                )
        self._encoder = encoder_of(codec)
        self._sending = asyncio.create_task(self._send_all())
        if isinstance(self.track, VideoOutput):
            self.track.on_due(self._code)

    async def _end(self) -> None:
        assert self._sending is not None
        self._encoder = None
        self._sending.cancel()
        await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        assert self.track is not None
        while True:
            try:
                frame: Any = await self.track.recv()
            except MediaStreamError:
                return
            if self._can_send:
                await codec_threads().run(self._code, frame)

    def _code(self, frame: VideoFrame) -> None:
        """Code a frame on a thread, and have the loop send it."""
        with self._coding:  # a frame refers to the one coded before: they are sent in this order
            if (encoder := self._encoder) is None or not self._can_send:
                return
            key = self._key_frame_due()
            speed = SPEED_BEHIND if codec_threads().behind else SPEED
            assert frame.pts is not None
            timestamp = self._origin + frame.pts & 0xFFFFFFFF  # before FFmpeg changes it
            try:
                payloads = encoder.encode(frame, key, self._bitrate, speed)
            except (ValueError, FFmpegError):
                frames_uncoded.inc()
            else:
                tell(self._loop, partial(self._send, payloads, timestamp))

    def _key_frame_due(self) -> bool:
        now = self._loop.time()
        if not self._key_frame_wanted or now - self._key_frame_at < KEY_FRAME_INTERVAL:
            return False
        self._key_frame_wanted = False
        self._key_frame_at = now
        return True

    def _send(self, payloads: list[bytes], timestamp: int) -> None:
        if not self._can_send:
            return
        for left, payload in enumerate(payloads, 1 - len(payloads)):
            sent = _Sent(self._number, timestamp, left == 0, payload)
            self._history[sent.number % HISTORY] = sent
            self._resent_at[sent.number % HISTORY] = float("-inf")
            self._send_packet(payload, timestamp, sent.marker)

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            for number in packet.lost:
                self._send_again(number & 0xFFFF)  # aiortc counts on from 65535
        elif isinstance(packet, RtcpPsfbPacket):
            if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                self._key_frame_wanted = True
            elif packet.fmt == RTCP_PSFB_APP:
                self._take_estimate(packet.fci)
        else:
            await super()._handle_rtcp_packet(packet)

    def _take_estimate(self, message: bytes) -> None:
        """What the client thinks it can receive (draft-alvestrand-rmcat-remb-03)."""
        try:
            bitrate, sources = unpack_remb_fci(message)
        except ValueError:
            return
        if self._ssrc in sources:
            self._bitrate = bitrate

    def _send_again(self, number: int) -> None:
        sent = self._history[number % HISTORY]
        if sent is None or sent.number != number or not self._can_send:
            return
        if (now := self._loop.time()) - self._resent_at[number % HISTORY] < RESEND_INTERVAL:
            return
        self._resent_at[number % HISTORY] = now
        if self._resent is None:
            assert self._header is not None
            head, payload = self._header, sent.payload
        else:  # RFC 4588, 4
            head, payload = self._resent, number.to_bytes(2, "big") + sent.payload
            number = self._resent_number
            self._resent_number = (number + 1) & 0xFFFF
        packet = head.pack(number, sent.timestamp, sent.marker, 0) + payload
        send_rtp(self.transport, self._connection, packet)
