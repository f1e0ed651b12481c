"""Broken, packets would be counted wrongly, and a server that loses some could look good."""

from capacity.rtp import PacketWriter, extended, missing, parse_header, payload_of


def test_packets_are_numbered_and_read_again() -> None:
    writer = PacketWriter(111, 0xFFFFFFFF)
    writer.sequence_number = 0xFFFF
    first, second = writer.packet(b"abc", 1 << 32, marker=True), writer.packet(b"d", 960)
    assert parse_header(first) == (111, True, 0xFFFF, 0, 0xFFFFFFFF)
    assert parse_header(second) == (111, False, 0, 960, 0xFFFFFFFF)
    assert payload_of(first) == b"abc"


def test_extensions_and_padding_are_no_payload() -> None:
    packet = bytearray(PacketWriter(96, 1).packet(b"", 0))
    packet[0] |= 0x30  # padding and extension
    packet += b"\xbe\xde\x00\x01" + b"\x10\x2a\x00\x00" + b"media" + b"\x00\x00\x03"
    assert payload_of(bytes(packet)) == b"media"


def test_sequence_numbers_go_on_and_may_come_late() -> None:
    assert extended([0xFFFE, 0xFFFF, 1, 0, 2]) == [0xFFFE, 0xFFFF, 0x10001, 0x10000, 0x10002]
    assert missing([0xFFFE, 0xFFFF, 1, 0, 4]) == 2
    assert missing([]) == 0
