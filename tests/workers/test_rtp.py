"""RTP headers, against those of aiortc."""

import os

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from workers import rtp

IDS = {rtp.MID: 4, rtp.SEND_TIME: 2, rtp.AUDIO_LEVEL: 1}


def negotiated(ids: dict[str, int]) -> list[RTCRtpHeaderExtensionParameters]:
    return [RTCRtpHeaderExtensionParameters(id=id, uri=uri) for uri, id in ids.items()]


def read(data: bytes, ids: dict[str, int]) -> RtpPacket:
    """As aiortc reads it."""
    extensions = HeaderExtensionsMap()
    extensions.configure(RTCRtpParameters(headerExtensions=negotiated(ids)))
    return RtpPacket.parse(data, extensions)


@pytest.mark.parametrize("names", [(), (rtp.MID,), (rtp.AUDIO_LEVEL,), tuple(IDS)])
@pytest.mark.parametrize("mid", ["0", "audio", "a-name-of-length"])
def test_what_is_written_is_read_by_aiortc(names: tuple[str, ...], mid: str) -> None:
    ids = {name: IDS[name] for name in names}
    header = rtp.Header(111, 2**32 - 5, mid, negotiated(ids))
    packet = read(header.pack(65535, 4_000_000_000, True, 93) + b"sound", ids)
    assert (packet.payload_type, packet.ssrc, packet.marker) == (111, 2**32 - 5, 1)
    assert (packet.sequence_number, packet.timestamp) == (65535, 4_000_000_000)
    assert packet.payload == b"sound"
    assert packet.extensions.mid == (mid if rtp.MID in ids else None)
    assert packet.extensions.audio_level == ((False, 93) if rtp.AUDIO_LEVEL in ids else None)
    assert (packet.extensions.abs_send_time is not None) == (rtp.SEND_TIME in ids)


def test_an_id_that_needs_the_long_form_is_left_out() -> None:
    """RFC 8285, 4.3; a receiver may not depend on an extension."""
    header = rtp.Header(111, 1, "0", negotiated({rtp.AUDIO_LEVEL: 15}))
    assert not header.wants_level
    assert header.pack(1, 2, False, 0)[0] == 0x80


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("sources", [0, 3])
def test_what_aiortc_writes_is_read(padding: int, sources: int) -> None:
    extensions = HeaderExtensionsMap()
    extensions.configure(RTCRtpParameters(headerExtensions=negotiated(IDS)))
    packet = RtpPacket(payload_type=96, sequence_number=7, timestamp=8, ssrc=9, payload=b"sound")
    packet.padding_size = padding
    packet.csrc = list(range(sources))
    packet.extensions.mid = "0"
    packet.extensions.abs_send_time = 0x123456
    packet.marker = padding and 1
    read = rtp.parse(packet.serialize(extensions))
    assert read[:6] == (96, 7, 8, 9, b"sound", bool(padding))
    assert rtp.extension(read.extensions, IDS[rtp.MID]) == b"0"
    assert rtp.extension(read.extensions, IDS[rtp.SEND_TIME]) == b"\x12\x34\x56"
    assert rtp.extension(read.extensions, IDS[rtp.AUDIO_LEVEL]) is None


def test_no_bytes_do_harm() -> None:
    """Whoever sends them has the keys of the call; it is its own call that suffers."""
    for length in range(12, 60):
        for first in range(256):
            data = bytes([first]) + os.urandom(length - 1)
            try:
                packet = rtp.parse(data)
            except rtp.RtpError:
                continue
            assert len(packet.payload) <= length - 12
            for id in range(1, 15):
                found = rtp.extension(packet.extensions, id)
                assert found is None or len(found) <= 16
