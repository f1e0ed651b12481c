"""Packets of video on their way to the decoder: frames that are whole, in order, and soon."""

import pytest

from workers.frame_assembly import MAX_AHEAD, PATIENCE, REORDERING, RETRY, FrameAssembly
from workers.rtp import Packet


def packet(number: int, frame: int, last: bool = False) -> Packet:
    return Packet(96, number % 2**16, frame * 3000, 1, str(number).encode(), last, b"")


def stream(frames: int, first: int = 0, size: int = 3) -> list[Packet]:
    """Frames of `size` packets each."""
    return [
        packet(first + frame * size + part, frame, part == size - 1)
        for frame in range(frames)
        for part in range(size)
    ]


def numbers(frames: list[list[Packet]]) -> list[list[int]]:
    return [[int(part.payload) for part in frame] for frame in frames]


def test_a_frame_is_given_with_its_last_packet() -> None:
    assembly = FrameAssembly(resends=True)
    given = [numbers(assembly.add(each, 0.0)) for each in stream(3)]
    assert given == [[], [], [[0, 1, 2]], [], [], [[3, 4, 5]], [], [], [[6, 7, 8]]]
    assert assembly.asked_for(0.0) == []


def test_numbers_start_anew_after_65535() -> None:
    assembly = FrameAssembly(resends=True)
    given = [frame for each in stream(4, 65530) for frame in assembly.add(each, 0.0)]
    assert len(given) == 4


def test_a_sender_without_markers_is_understood() -> None:
    assembly = FrameAssembly(resends=True)
    given = [assembly.add(each._replace(marker=False), 0.0) for each in stream(3)]
    assert [numbers(each) for each in given[3::3]] == [[[0, 1, 2]], [[3, 4, 5]]]


def test_packets_in_the_wrong_order_are_put_right() -> None:
    assembly = FrameAssembly(resends=True)
    parts = stream(2)
    for at in (0, 2, 3, 5, 4):
        assert assembly.add(parts[at], 0.0) == []
    assert numbers(assembly.add(parts[1], 0.0)) == [[0, 1, 2], [3, 4, 5]]


def test_what_comes_twice_or_too_late_is_dropped() -> None:
    assembly = FrameAssembly(resends=True)
    for each in stream(1):
        assembly.add(each, 0.0)
        assert assembly.add(each, 0.0) == []


def test_missing_packets_are_asked_for_until_they_come() -> None:
    assembly = FrameAssembly(resends=True)
    parts = stream(2, 65535)
    assembly.add(parts[0], 0.0)
    assembly.add(parts[3], 0.0)
    assert assembly.asked_for(0.0) == [0, 1]
    assert assembly.asked_for(RETRY / 2) == []
    assert assembly.add(parts[1], RETRY) == []
    assert assembly.asked_for(RETRY) == [1]
    assert numbers(assembly.add(parts[2], RETRY)) == [[65535, 65536, 65537]]
    assert assembly.asked_for(1.0) == []
    assert assembly.give_up(1.0) == (False, [])


@pytest.mark.parametrize(("resends", "patience"), [(True, PATIENCE), (False, REORDERING)])
def test_frames_go_on_after_a_packet_that_never_comes(resends: bool, patience: float) -> None:
    assembly = FrameAssembly(resends)
    parts = stream(4)
    del parts[4]
    given = [frame for each in parts for frame in assembly.add(each, 0.0)]
    assert numbers(given) == [[0, 1, 2]]
    assert assembly.give_up(patience * 0.9) == (False, [])
    lost, frames = assembly.give_up(patience)
    assert lost
    assert numbers(frames) == [[6, 7, 8], [9, 10, 11]]
    assert numbers(assembly.add(packet(12, 4, last=True), patience)) == [[12]]
    assert assembly.asked_for(patience) == []


def test_what_does_not_resend_is_not_asked() -> None:
    assembly = FrameAssembly(resends=False)
    assembly.add(packet(0, 0), 0.0)
    assembly.add(packet(2, 0), 0.0)
    assert assembly.asked_for(0.0) == []


def test_a_lost_begin_of_the_newest_frame_is_given_up_too() -> None:
    assembly = FrameAssembly(resends=True)
    assembly.add(packet(0, 0, last=True), 0.0)
    assembly.add(packet(2, 1), 0.0)
    assert assembly.give_up(PATIENCE) == (True, [])
    assert assembly.add(packet(3, 1, last=True), PATIENCE) == []
    assert numbers(assembly.add(packet(4, 2, last=True), PATIENCE)) == [[4]]


def test_a_hole_behind_a_hole_is_waited_for_on_its_own() -> None:
    assembly = FrameAssembly(resends=True)
    parts = stream(5)
    for at in (0, 1, 2, 4, 5):
        assembly.add(parts[at], 0.0)
    for at in (7, 8, 9, 10, 11):
        assembly.add(parts[at], PATIENCE / 2)
    assert assembly.give_up(PATIENCE) == (True, [])
    assert numbers(assembly.add(parts[6], PATIENCE)) == [[6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize("jump", [MAX_AHEAD + 1, -MAX_AHEAD - 2])
def test_a_sender_that_numbers_anew_is_followed(jump: int) -> None:
    assembly = FrameAssembly(resends=True)
    for each in stream(1, 5000):
        assembly.add(each, 0.0)
    given = [numbers(assembly.add(each, 0.0)) for each in stream(1, 5002 + jump)]
    assert given[-1] == [[5002 + jump, 5003 + jump, 5004 + jump]]


def test_what_waits_is_bounded() -> None:
    assembly = FrameAssembly(resends=True)
    assembly.add(packet(0, 0), 0.0)
    for number in range(2, 20 * MAX_AHEAD):
        assembly.add(packet(number, number), number / 10_000)
        assembly.give_up(number / 10_000)
        assert len(assembly._packets) + len(assembly._missing) <= PATIENCE * 10_000 + 2


@pytest.mark.parametrize("jump", [MAX_AHEAD + 1, -MAX_AHEAD - 2])
def test_after_a_new_numbering_frames_are_missing(jump: int) -> None:
    """As after seconds without a network: only a key frame helps the decoder on."""
    assembly = FrameAssembly(resends=True)
    for each in stream(1, 5000):
        assembly.add(each, 0.0)
    assert assembly.give_up(0.0) == (False, [])
    assembly.add(packet(5002 + jump, 1), 0.0)
    assert assembly.give_up(0.0) == (True, [])
    assert assembly.give_up(0.0) == (False, [])


@pytest.mark.parametrize("step", [1, 2, MAX_AHEAD - 1])
@pytest.mark.parametrize("resends", [True, False])
def test_no_numbers_fill_the_memory(step: int, resends: bool) -> None:
    """A frame without end, and packets that each skip many."""
    assembly = FrameAssembly(resends)
    for number in range(0, 3000 * step, step):
        assembly.add(packet(number, 0), 0.0)
        assembly.give_up(0.0)
        assert len(assembly._packets) + len(assembly._missing) <= MAX_AHEAD
        assert len(assembly.asked_for(0.0)) <= MAX_AHEAD
