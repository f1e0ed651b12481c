"""Receives the video of a connection: whole frames are decoded on the worker's codec threads.

Frames that cannot be decoded as fast as they come are dropped, all that wait at once, and a key
frame is asked for: without it those that follow cannot be decoded.
"""

import asyncio
import struct
from collections import deque
from typing import Any

from aiortc import RTCDtlsTransport, clock
from aiortc.codecs import depayload, get_decoder, is_rtx
from aiortc.jitterbuffer import JitterFrame
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    pack_remb_fci,
)
from av import FFmpegError
from av.video.frame import VideoFrame
from prometheus_client import Counter

from workers import rtp
from workers.codec_threads import codec_threads
from workers.frame_assembly import FrameAssembly
from workers.rtp_receiver import RtpReceiver
from workers.rtp_transport import send_rtcp
from workers.video import VideoInput

MAX_BEHIND = 30
"""Encoded frames that wait for a decoder, above which they are dropped: a second of video."""
REQUEST_INTERVAL = 0.3
"""Seconds between two requests for a key frame."""

packets_broken = Counter(
    "rayrtc_worker_video_packets_broken_total",
    "Received video packets that could not be authenticated or read, and frames not decoded.",
)
frames_skipped = Counter(
    "rayrtc_worker_encoded_frames_dropped_total",
    "Received frames that were dropped because decoding was slower than their rate.",
)


class VideoReceiver(RtpReceiver):
    """Gives what it receives to a `VideoInput`."""

    kind = "video"
    broken = packets_broken

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport)
        self._loop = asyncio.get_running_loop()
        self._input: VideoInput | None = None
        self._assembly = FrameAssembly(resends=False)
        self._estimator = RemoteBitrateEstimator()
        self._send_time = 0  # id of the extension
        self._originals: dict[int, int] = {}  # of the sources with what is sent again
        self._needs_key_frame = False
        self._asked_at = float("-inf")
        self._encoded: deque[tuple[RTCRtpCodecParameters, JitterFrame]] = deque()
        self._decoding: asyncio.Future[Any] | None = None
        self._decoder: Any = None
        self._decodes = ""

    def feed(self, input: VideoInput) -> None:
        """Give what is received to `input` from now on."""
        self._input = input

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        ids = {each.uri: each.id for each in parameters.headerExtensions}
        self._send_time = ids.get(rtp.SEND_TIME, 0)
        self._originals = {e.rtx.ssrc: e.ssrc for e in parameters.encodings if e.rtx is not None}
        await super().receive(parameters)

    async def stop(self) -> None:
        await super().stop()
        self._input = None
        self._encoded.clear()
        if self._decoding is not None:
            await asyncio.wait([self._decoding])

    def _take(self, packet: rtp.Packet, new: bool) -> None:
        self._estimate(packet)
        codec = self._codecs[packet.payload_type]
        if is_rtx(codec):
            original = self._original(packet, codec)
            if original is None:
                return
            packet = original
            codec = self._codecs[packet.payload_type]
        elif new:
            self._assembly = FrameAssembly(_resends(codec))
        now = self._loop.time()
        frames = self._assembly.add(packet, now)
        lost, further = self._assembly.give_up(now)
        if lost:
            self._needs_key_frame = True
        if numbers := self._assembly.asked_for(now):
            request = RtcpRtpfbPacket(RTCP_RTPFB_NACK, self._rtcp_ssrc, packet.ssrc)
            request.lost = sorted(numbers)
            send_rtcp(self.transport, request)
        for frame in frames + further:
            self._assembled(codec, frame)
        if self._needs_key_frame:
            self._ask_for_key_frame(packet.ssrc)

    def _original(self, packet: rtp.Packet, codec: RTCRtpCodecParameters) -> rtp.Packet | None:
        """What was sent again in a packet (RFC 4588, 4); None if it is of no use."""
        ssrc, payload_type = self._originals.get(packet.ssrc), codec.parameters.get("apt")
        if ssrc is None or payload_type not in self._codecs or len(packet.payload) <= 2:
            return None
        return packet._replace(
            payload_type=payload_type,
            sequence_number=int.from_bytes(packet.payload[:2], "big"),
            ssrc=ssrc,
            payload=packet.payload[2:],
        )

    def _estimate(self, packet: rtp.Packet) -> None:
        """Tell the client what it may send, when there is something new to tell."""
        if not self._send_time:
            return
        sent = rtp.extension(packet.extensions, self._send_time)
        if sent is None or len(sent) != 3:
            return
        estimate = self._estimator.add(
            arrival_time_ms=clock.current_ms(),
            abs_send_time=int.from_bytes(sent, "big"),
            payload_size=len(packet.payload),
            ssrc=packet.ssrc,
        )
        if estimate is not None:
            message = pack_remb_fci(*estimate)
            send_rtcp(
                self.transport, RtcpPsfbPacket(RTCP_PSFB_APP, self._rtcp_ssrc, 0, fci=message)
            )

    def _assembled(self, codec: RTCRtpCodecParameters, packets: list[rtp.Packet]) -> None:
        try:
            data = b"".join([depayload(codec, p.payload) for p in packets if p.payload])
        except (ValueError, struct.error):
            packets_broken.inc()
            self._needs_key_frame = True
            return
        if not data or self._input is None:
            return
        if self._needs_key_frame:
            if not _is_key_frame(codec, data):
                return
            self._needs_key_frame = False
        if len(self._encoded) >= MAX_BEHIND:
            frames_skipped.inc(len(self._encoded) + 1)
            self._encoded.clear()
            self._needs_key_frame = True
            return
        self._encoded.append((codec, JitterFrame(data, packets[0].timestamp)))
        self._decode_next()

    def _decode_next(self) -> None:
        if self._encoded and self._decoding is None:
            frames = list(self._encoded)
            self._encoded.clear()
            self._decoding = codec_threads().run(self._decode, frames)
            self._decoding.add_done_callback(self._decoded)

    def _decode(
        self, encoded: list[tuple[RTCRtpCodecParameters, JitterFrame]]
    ) -> tuple[list[VideoFrame], int]:
        """On a thread: the frames, and how many could not be decoded."""
        frames, failed = [], 0
        for codec, frame in encoded:
            if self._decodes != codec.name:
                self._decoder = get_decoder(codec)
                self._decoder.codec.thread_count = 1  # threads are the worker's
                self._decodes = codec.name
            try:
                frames += self._decoder.decode(frame)
            except FFmpegError:
                failed += 1
        return frames, failed

    def _decoded(self, decoding: "asyncio.Future[tuple[list[VideoFrame], int]]") -> None:
        self._decoding = None
        if decoding.cancelled():
            return
        frames, failed = decoding.result()
        if failed:
            packets_broken.inc(failed)
            self._needs_key_frame = True
        if self._input is not None:
            for frame in frames:
                self._input.put(frame)
            self._decode_next()

    def _ask_for_key_frame(self, source: int) -> None:
        if (now := self._loop.time()) - self._asked_at >= REQUEST_INTERVAL:
            self._asked_at = now
            send_rtcp(self.transport, RtcpPsfbPacket(RTCP_PSFB_PLI, self._rtcp_ssrc, source))


def _resends(codec: RTCRtpCodecParameters) -> bool:
    return any(each.type == "nack" and not each.parameter for each in codec.rtcpFeedback)


def _is_key_frame(codec: RTCRtpCodecParameters, data: bytes) -> bool:
    """Whether decoding can begin with a frame. Of other codecs than VP8 the decoder finds out."""
    return codec.name != "VP8" or not data[0] & 1  # RFC 6386, 9.1
