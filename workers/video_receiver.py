"""Receives the video of a connection: whole frames are decoded on the worker's codec threads.

Frames that cannot be decoded as fast as they come are dropped, all that wait at once, and a key
frame is asked for: without it those that follow cannot be decoded.
"""

import asyncio
import re
import struct
import threading
from collections import deque
from concurrent.futures import Future
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
from prometheus_client import Counter

from workers import rtp
from workers.codec_threads import codec_threads
from workers.frame_assembly import FrameAssembly
from workers.rtp_receiver import RtpReceiver
from workers.rtp_transport import send_rtcp
from workers.video import MAX_SIDE, VideoInput

MAX_BEHIND = 30
"""Encoded frames that wait for a decoder, above which they are dropped: a second of video."""
REQUEST_INTERVAL = 0.3
"""Seconds between two requests for a key frame, and that a new source has for its first."""
MAX_PIXELS = MAX_SIDE**2
"""Of a picture; a few bytes can claim to be a larger one, which would fill the worker's memory."""

_VP8_START = b"\x9d\x01\x2a"
_H264_KEY_FRAME = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65\x07\x27\x47\x67]")
"""The begin of an IDR slice or a sequence parameter set (ITU-T H.264, 7.4.1)."""

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
        self._lock = threading.Lock()  # guards the next two
        self._encoded: deque[tuple[RTCRtpCodecParameters, JitterFrame]] = deque()
        self._decoding: Future[None] | None = None
        self._decoder: Any = None
        self._decodes = ""
        self._failed = False  # a frame could not be decoded

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
        with self._lock:
            self._encoded.clear()
            decoding = self._decoding
        if decoding is not None:
            await asyncio.wait([asyncio.wrap_future(decoding)])

    def _take(self, packet: rtp.Packet, new: bool) -> None:
        now = self._loop.time()
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
            self._needs_key_frame, self._asked_at = True, now
        frames = self._assembly.add(packet, now)
        lost, further = self._assembly.give_up(now)
        if lost or self._failed:
            self._needs_key_frame, self._failed = True, False
        if numbers := self._assembly.asked_for(now):
            request = RtcpRtpfbPacket(RTCP_RTPFB_NACK, self._rtcp_ssrc, packet.ssrc)
            request.lost = sorted(numbers)
            send_rtcp(self.transport, request)
        for frame in frames + further:
            self._assembled(codec, frame)
        if self._needs_key_frame and self._input is not None:
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
            payload_size=len(packet.payload) or 1,  # it divides by the rate
            ssrc=packet.ssrc,
        )
        if estimate is not None:
            bitrate, sources = estimate
            for ssrc in sources:
                if ssrc not in self._sources:
                    del self._estimator.ssrcs[ssrc]
            message = pack_remb_fci(bitrate, list(self._estimator.ssrcs))
            send_rtcp(
                self.transport, RtcpPsfbPacket(RTCP_PSFB_APP, self._rtcp_ssrc, 0, fci=message)
            )

    def _assembled(self, codec: RTCRtpCodecParameters, packets: list[rtp.Packet]) -> None:
        try:
            data = b"".join([depayload(codec, p.payload) for p in packets if p.payload])
            _check_size(codec, data)
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
        with self._lock:
            if len(self._encoded) < MAX_BEHIND:
                self._encoded.append((codec, JitterFrame(data, packets[0].timestamp)))
                if self._decoding is None or self._decoding.done():
                    self._decoding = codec_threads().submit(self._decode_waiting, self._input)
                return
            frames_skipped.inc(len(self._encoded) + 1)
            self._encoded.clear()
        self._needs_key_frame = True

    def _decode_waiting(self, input: VideoInput) -> None:
        """Decode what has waited longest. Runs on a thread, once at a time.

        What else waits comes after the frames of other connections.
        """
        with self._lock:
            if not self._encoded:
                self._decoding = None
                return
            codec, encoded = self._encoded.popleft()
        if self._decodes != codec.name:
            self._decoder = get_decoder(codec)
            self._decoder.codec.thread_count = 1  # threads are the worker's
            self._decoder.codec.options = {"max_pixels": str(MAX_PIXELS)}
            self._decodes = codec.name
        try:
            for frame in self._decoder.decode(encoded):
                input.put(frame)
        except FFmpegError:
            packets_broken.inc()
            self._failed = True
        with self._lock:
            again = codec_threads().submit(self._decode_waiting, input) if self._encoded else None
            self._decoding = again

    def _ask_for_key_frame(self, source: int) -> None:
        if (now := self._loop.time()) - self._asked_at >= REQUEST_INTERVAL:
            self._asked_at = now
            send_rtcp(self.transport, RtcpPsfbPacket(RTCP_PSFB_PLI, self._rtcp_ssrc, source))


def _resends(codec: RTCRtpCodecParameters) -> bool:
    return any(each.type == "nack" and not each.parameter for each in codec.rtcpFeedback)


def _is_key_frame(codec: RTCRtpCodecParameters, data: bytes) -> bool:
    """Whether decoding can begin with a frame."""
    if codec.name == "VP8":
        return not data[0] & 1 and data[3:6] == _VP8_START  # RFC 6386, 9.1
    return _H264_KEY_FRAME.search(data) is not None


def _check_size(codec: RTCRtpCodecParameters, data: bytes) -> None:
    """Whether a VP8 frame may be decoded; of H.264 FFmpeg finds out before it takes memory.

    Raises:
        ValueError: its picture is larger than `MAX_PIXELS`.
    """
    if codec.name == "VP8" and len(data) >= 10 and _is_key_frame(codec, data):
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 6))
        if width * height > MAX_PIXELS:
            raise ValueError(f"a picture of {width} x {height} pixels")
