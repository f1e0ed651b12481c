"""RTP packets: read and written without an object for each header (RFC 3550, 5.1)."""

import time
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters

_FIXED = Struct("!BBHII")
_PADDING, _EXTENSION, _CSRC = 0x20, 0x10, 0x0F
_MARKER = 0x80
_ONE_BYTE_HEADER = b"\xbe\xde"  # RFC 8285, 4.2
_MOST_ID = 14
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"


_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970; a multiple of the 64 s of the send time


def ntp_time(seconds: float) -> int:
    """`time.time()` as the 64 bits of RTCP (RFC 3550, 4)."""
    return int((seconds + _NTP_EPOCH) * 2**32)


class RtpError(ValueError):
    """The bytes are no RTP packet."""


class Packet(NamedTuple):
    """What a receiver wants to know of a packet."""

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool
    extensions: bytes
    """What follows the header of the one-byte extensions (RFC 8285, 4.2); empty without any."""


def parse(data: bytes) -> Packet:
    """A packet of at least 12 bytes without its encryption.

    Raises:
        RtpError: a length in it is not possible.
    """
    first, second, number, timestamp, ssrc = _FIXED.unpack_from(data)
    begin, end = _FIXED.size + 4 * (first & _CSRC), len(data)
    extensions = b""
    if first & _EXTENSION:
        head, begin = begin, begin + 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
        if data[head : head + 2] == _ONE_BYTE_HEADER:
            extensions = data[head + 4 : begin]
    if first & _PADDING:
        end -= data[-1]
    if begin > end:
        raise RtpError("the header is longer than the packet")
    return Packet(
        second & 0x7F, number, timestamp, ssrc, data[begin:end], second > 0x7F, extensions
    )


def extension(extensions: bytes, id: int) -> bytes | None:
    """The header extension with this id, 1 to 14; None if there is none."""
    at = 0
    while at < len(extensions):
        first = extensions[at]
        if not first:  # padding
            at += 1
            continue
        end = at + 2 + (first & 0x0F)
        if first >> 4 == id:
            return extensions[at + 1 : end] if end <= len(extensions) else None
        at = end
    return None


class Header:
    """The header of the packets of one stream.

    Args:
        payload_type: of the codec.
        ssrc: of the stream.
        mid: of its media section, which receivers that bundle route by (RFC 9143, 9.2).
        extensions: those that were negotiated; sent are the time, the audio level and `mid`.

    Attributes:
        wants_level: whether the audio level is among them (RFC 6464).
    """

    def __init__(
        self,
        payload_type: int,
        ssrc: int,
        mid: str,
        extensions: Sequence[RTCRtpHeaderExtensionParameters],
    ) -> None:
        ids = {e.uri: e.id for e in extensions if 0 < e.id <= _MOST_ID}
        self._payload_type = payload_type
        self._ssrc = ssrc
        self.wants_level = AUDIO_LEVEL in ids
        self._timed = SEND_TIME in ids
        self._level = bytes([ids[AUDIO_LEVEL] << 4]) if self.wants_level else b""
        self._time = bytes([ids[SEND_TIME] << 4 | 2]) if self._timed else b""
        name = mid.encode()[:16]
        static = bytes([ids[MID] << 4 | len(name) - 1]) + name if MID in ids and name else b""
        size = len(static) + 2 * self.wants_level + 4 * self._timed
        self._static = static + bytes(-size % 4)
        words = (size + 3) // 4
        self._profile = _ONE_BYTE_HEADER + words.to_bytes(2, "big") if words else b""
        self._first = 0x80 | (_EXTENSION if words else 0)

    def pack(self, number: int, timestamp: int, marker: bool, level: int) -> bytes:
        """The header of one packet.

        Args:
            level: -dBov, 0 (loudest) to 127 (silence).
        """
        data = _FIXED.pack(
            self._first,
            self._payload_type | (_MARKER if marker else 0),
            number,
            timestamp,
            self._ssrc,
        )
        data += self._profile
        if self._timed:
            data += self._time + (int(time.time() * 2**18) & 0xFFFFFF).to_bytes(3, "big")
        if self.wants_level:
            data += self._level + bytes([level])
        return data + self._static
