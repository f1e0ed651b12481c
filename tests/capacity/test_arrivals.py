"""Broken, late media would pass for good."""

import math

import pytest

from capacity.arrivals import gaps, late, percentile, round_trips

PACKET = 0.02


def media(count: int) -> list[float]:
    return [number * PACKET for number in range(count)]


def test_only_what_a_buffer_cannot_hold_is_late() -> None:
    sent = media(100)
    steady = [7.0 + at for at in sent]
    assert late(steady, sent) == 0
    held_up = [at + 0.2 if 40 <= number < 50 else at for number, at in enumerate(steady)]
    assert late(held_up, sent) == pytest.approx(0.1)
    jittery = [at + 0.05 * (number % 2) for number, at in enumerate(steady)]
    assert late(jittery, sent) == 0
    assert late([], []) == 0


def test_a_pause_of_the_speaker_is_no_gap() -> None:
    times = [0.0, 0.02, 5.02, 5.04]
    assert gaps([1 + at for at in times], times, PACKET) == pytest.approx([PACKET] * 3)
    assert max(gaps([1.0, 1.02, 1.3], media(3), PACKET)) == pytest.approx(0.28)


def test_a_round_trip_belongs_to_its_own_marker() -> None:
    marked = [(1.0, 0), (2.0, 1), (3.0, 2)]
    assert round_trips(marked, [(1.1, 0), (3.3, 2)]) == pytest.approx([0.1, 0.3])


def test_a_round_trip_may_be_longer_than_the_time_between_markers() -> None:
    marked = [(1.0, 0), (2.0, 1), (3.0, 2)]
    assert round_trips(marked, [(2.6, 0), (3.6, 1), (0.5, 2)]) == pytest.approx([1.6, 1.6])
    assert round_trips([(1.0, 0)], [(9.5, 0)]) == []


def test_percentiles() -> None:
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([0.0, 10.0], 99) == pytest.approx(9.9)
    assert math.isnan(percentile([], 50))
