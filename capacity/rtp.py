"""RTP as far as a caller needs it that sends encoded media and looks at headers (RFC 3550)."""

import struct
from typing import NamedTuple

_HEADER = struct.Struct("!BBHII")


class Header(NamedTuple):
    """What stands in clear in each SRTP packet."""

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int


def parse_header(data: bytes) -> Header:
    """The fixed header; struct.error when the packet is shorter."""
    _, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
    return Header(second & 0x7F, bool(second & 0x80), sequence_number, timestamp, ssrc)


def payload_of(data: bytes) -> bytes:
    """The payload of a packet that is decrypted, without header extensions and padding."""
    offset = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        offset += 4 + 4 * int.from_bytes(data[offset + 2 : offset + 4], "big")
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    return data[offset:end]


class PacketWriter:
    """Numbers the packets of one stream.

    Args:
        payload_type: as negotiated.
        ssrc: as in the offer.
    """

    def __init__(self, payload_type: int, ssrc: int) -> None:
        self.payload_type = payload_type
        self.ssrc = ssrc
        self.sequence_number = 0

    def packet(self, payload: bytes, timestamp: int, marker: bool = False) -> bytes:
        """A packet of version 2 without extensions; `timestamp` in units of the clock rate."""
        header = _HEADER.pack(
            0x80,
            self.payload_type | (0x80 if marker else 0),
            self.sequence_number,
            timestamp & 0xFFFFFFFF,
            self.ssrc,
        )
        self.sequence_number = (self.sequence_number + 1) & 0xFFFF
        return header + payload


def extended(numbers: list[int]) -> list[int]:
    """Sequence numbers that go on counting where those of 16 bits start anew."""
    result: list[int] = []
    for number in numbers:
        last = result[-1] if result else number
        result.append(last + ((number - last + 0x8000) & 0xFFFF) - 0x8000)
    return result


def missing(numbers: list[int]) -> int:
    """How many sequence numbers of 16 bits are missing between the least and the largest."""
    if not numbers:
        return 0
    known = extended(numbers)
    return max(known) - min(known) + 1 - len(set(known))
