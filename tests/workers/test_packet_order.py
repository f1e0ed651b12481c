"""Packets on their way to the decoder: what waits here is heard later, or never."""

from aiortc.rtp import RtpPacket

from workers.packet_order import PacketOrder


def given(order: PacketOrder, *numbers: int) -> list[int | None]:
    """What comes out for each packet that comes in."""
    out: list[int | None] = []
    for number in numbers:
        packet = RtpPacket(sequence_number=number % 2**16, timestamp=number)
        packet._data = str(number).encode()
        key_frame, frame = order.add(packet)
        assert not key_frame
        assert frame is None or frame.data == str(frame.timestamp).encode()
        out.append(None if frame is None else frame.timestamp)
    return out


def test_packets_in_order_do_not_wait() -> None:
    assert given(PacketOrder(), *range(50)) == list(range(50))


def test_numbers_start_anew_after_65535() -> None:
    assert given(PacketOrder(), *range(65530, 65550)) == list(range(65530, 65550))


def test_packets_in_the_wrong_order_are_put_right() -> None:
    order = PacketOrder()
    assert given(order, 0, 2, 1, 3, 4) == [0, None, 1, 2, 3]
    assert given(order, 7, 6, 5) == [4, None, 5]


def test_a_lost_packet_is_waited_for_no_longer_than_two() -> None:
    out = given(PacketOrder(), 0, *range(2, 30))
    assert out[:4] == [0, None, None, 2]
    assert [number for number in out if number is not None] == [0, *range(2, 28)]


def test_what_comes_too_late_or_twice_is_dropped() -> None:
    assert given(PacketOrder(), 0, 1, 1, 2, 0, 3) == [0, 1, None, 2, None, 3]
    assert given(PacketOrder(), 0, 2, 2, 3, 4, 1) == [0, None, None, None, 2, None]


def test_a_sender_that_numbers_anew_is_followed() -> None:
    assert given(PacketOrder(), 5000, 5001, 10, 11) == [5000, 5001, 10, 11]
    assert given(PacketOrder(), 10, 5000, 5001, 5002) == [10, None, None, 5000]
