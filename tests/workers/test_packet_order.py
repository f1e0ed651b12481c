"""Packets on their way to the decoder: what waits here is heard later, or never."""

from workers.packet_order import CONCEALED, PacketOrder

LOST = None


def given(order: PacketOrder[int], *numbers: int) -> list[list[int | None]]:
    """What comes out for each packet that comes in."""
    return [list(order.add(number % 2**16, number)) for number in numbers]


def alone(*numbers: int) -> list[list[int]]:
    return [[number] for number in numbers]


def test_packets_in_order_do_not_wait() -> None:
    assert given(PacketOrder(), *range(50)) == alone(*range(50))


def test_numbers_start_anew_after_65535() -> None:
    assert given(PacketOrder(), *range(65530, 65550)) == alone(*range(65530, 65550))


def test_packets_in_the_wrong_order_are_put_right() -> None:
    order = PacketOrder[int]()
    assert given(order, 0, 2, 1, 3, 4) == [[0], [], [1, 2], [3], [4]]
    assert given(order, 7, 6, 5) == [[], [], [5, 6, 7]]


def test_a_lost_packet_is_waited_for_no_longer_than_two() -> None:
    out = given(PacketOrder(), 0, *range(2, 30))
    assert out[:4] == [[0], [], [], [LOST, 2, 3, 4]]
    assert out[4:] == alone(*range(5, 30))


def test_each_lost_packet_is_named() -> None:
    assert given(PacketOrder(), 0, 4, 5, 6) == [[0], [], [], [LOST, LOST, LOST, 4, 5, 6]]


def test_a_long_hole_is_a_pause() -> None:
    first = CONCEALED + 2
    assert given(PacketOrder(), 0, first, first + 1, first + 2)[-1] == [first, first + 1, first + 2]


def test_what_comes_too_late_or_twice_is_dropped() -> None:
    assert given(PacketOrder(), 0, 1, 1, 2, 0, 3) == [[0], [1], [], [2], [], [3]]
    assert given(PacketOrder(), 0, 2, 2, 3, 4, 1) == [[0], [], [], [], [LOST, 2, 3, 4], []]


def test_a_sender_that_numbers_anew_is_followed() -> None:
    assert given(PacketOrder(), 5000, 5001, 10, 11) == alone(5000, 5001, 10, 11)
    assert given(PacketOrder(), 10, 5000, 5001, 5002) == [[10], [], [], [5000, 5001, 5002]]
