"""Frames to the payloads of RTP packets: VP8 by libvpx, other codecs by aiortc."""

import logging
from typing import Any, Protocol

from aiortc.codecs import get_encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.utils import random16
from av.video.frame import VideoFrame

from workers import vp8

logger = logging.getLogger(__name__)

PAYLOAD_BYTES = 1200
"""Of a packet at most, which leaves room for all headers in the 1280 bytes of any IPv6 link."""
MIN_BITRATE = 50_000
"""bit/s; a client that reports less gets as much."""
MAX_BITRATE = 1_500_000
"""bit/s of pictures of up to half a million pixels; larger ones may have `BITS_PER_PIXEL`."""
BITS_PER_PIXEL = 3
"""Bits a second for each pixel of a large picture."""
START_BITRATE = 500_000
"""bit/s until the client reports what it can take."""


class VideoEncoder(Protocol):
    """What a sender codes with; one frame at a time, on any thread."""

    def encode(self, frame: VideoFrame, key: bool, bitrate: int, speed: int) -> list[bytes]:
        """The payloads of a frame's packets; none if it is left out to keep to the bit rate.

        Args:
            frame: its `pts` in 1/90000 s, growing; may be changed.
            key: make it a key frame.
            bitrate: bit/s, which is kept to what fits the size of the frame.
            speed: as `VP8Encoder.set_speed`.

        Raises:
            ValueError: the codec does not take it.
            av.FFmpegError: the same.
        """


class VP8:
    """VP8 in packets with a picture id of 15 bits (RFC 7741, 4.2)."""

    def __init__(self) -> None:
        self._encoder: vp8.VP8Encoder | None = None
        self._picture = random16() & 0x7FFF

    def encode(self, frame: VideoFrame, key: bool, bitrate: int, speed: int) -> list[bytes]:
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        bitrate = within(bitrate, frame.width * frame.height)
        encoder = self._encoder
        if encoder is None or (encoder.width, encoder.height) != (frame.width, frame.height):
            encoder = self._encoder = vp8.VP8Encoder(frame.width, frame.height, bitrate)
        encoder.set_bitrate(bitrate)
        encoder.set_speed(speed)
        coded = encoder.encode(frame, key)
        if coded:
            self._picture = (self._picture + 1) & 0x7FFF
        return _packetize(coded, self._picture)


class Other:
    """H.264 by aiortc, of pictures with even sides: libx264 takes no others."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._encoder: Any = get_encoder(codec)

    def encode(self, frame: VideoFrame, key: bool, bitrate: int, speed: int) -> list[bytes]:
        width, height = max(2, frame.width & ~1), max(2, frame.height & ~1)
        if (width, height) != (frame.width, frame.height):
            frame = frame.reformat(width, height)
        self._encoder.target_bitrate = within(bitrate, width * height)
        payloads: list[bytes] = self._encoder.encode(frame, key)[0]
        return payloads


def within(bitrate: int, pixels: int) -> int:
    """`bitrate` kept to what is of use for a picture of this size."""
    return max(MIN_BITRATE, min(bitrate, max(MAX_BITRATE, BITS_PER_PIXEL * pixels)))


def encoder_of(codec: RTCRtpCodecParameters) -> VideoEncoder:
    """An encoder for what was negotiated."""
    if codec.mimeType.lower() == "video/vp8":
        try:
            vp8.library()
            return VP8()
        except OSError as error:
            logger.warning(
                "VP8 is coded by FFmpeg, with a key frame for each new bit rate: %s", error
            )
    return Other(codec)


def _packetize(coded: bytes, picture: int) -> list[bytes]:
    following = b"\x80\x80" + (0x8000 | picture).to_bytes(2, "big")
    size = PAYLOAD_BYTES - len(following)
    payloads = [following + coded[at : at + size] for at in range(0, len(coded), size)]
    if payloads:
        payloads[0] = b"\x90" + payloads[0][1:]  # begins a partition
    return payloads
