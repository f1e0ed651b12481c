"""What a pool keeps free: too little refuses calls, too much costs money."""

import math
import random

import pytest

from workers.demand import DEVIATIONS, FIRST_START, LONGEST_START, WINDOW, Demand


def steady(demand: Demand, rate: float, calls: int, seconds: float, begin: float = 0.0) -> float:
    """Looks each half second at a pool with calls that come at a constant rate; the time after."""
    come, now = 0.0, begin
    while now < begin + seconds:
        before = int(come)
        come += rate * 0.5
        now += 0.5
        demand.observe(int(come) - before, calls, now)
    return now


def test_nothing_is_kept_for_a_pool_without_calls() -> None:
    demand = Demand()
    assert demand.buffer == 0
    steady(demand, 0.0, 0, 100)
    assert demand.buffer == 0


@pytest.mark.parametrize("rate", [0.2, 1.0, 5.0])
def test_the_buffer_covers_how_much_calls_vary_while_a_worker_starts(rate: float) -> None:
    demand = Demand()
    steady(demand, rate, 50, 6 * WINDOW)
    expected = DEVIATIONS * math.sqrt(rate * FIRST_START)
    assert demand.buffer == pytest.approx(expected, rel=0.05, abs=1.01)


def test_growing_calls_need_more() -> None:
    demand, calls, now = Demand(), 0, 0.0
    demand.started(30)
    while calls < 600:
        now += 0.5
        calls += 1
        demand.observe(1, calls, now)
    assert demand.buffer > 2 * 30, "two calls more a second, for half a minute"
    steady(demand, 2.0, calls, 6 * WINDOW, now)
    assert demand.buffer < 30


def test_a_slow_start_counts_at_once_and_a_quick_one_by_and_by() -> None:
    demand = Demand()
    steady(demand, 2.0, 50, 6 * WINDOW)
    usual = demand.buffer
    demand.started(90)
    slow = demand.buffer
    assert slow == pytest.approx(3 * usual, rel=0.2)
    demand.started(FIRST_START)
    assert usual < demand.buffer < slow
    for _ in range(30):
        demand.started(FIRST_START)
    assert demand.buffer == usual
    demand.started(1e9)
    assert demand.buffer <= math.ceil(DEVIATIONS * math.sqrt(2.1 * LONGEST_START))


def test_a_clock_that_stands_still_does_no_harm() -> None:
    demand = Demand()
    for _ in range(3):
        demand.observe(4, 4, 7.0)
    demand.observe(0, 4, 8.0)
    assert demand.buffer >= 0


def test_few_calls_come_while_there_is_no_room() -> None:
    """Calls that come at random find the buffer too small for one in ten starts at most."""
    choose = random.Random(4)
    demand = Demand()
    steady(demand, 1.0, 50, 6 * WINDOW)
    more = [
        sum(choose.random() < 0.01 for _ in range(int(FIRST_START * 100)))
        - sum(choose.random() < 0.01 for _ in range(int(FIRST_START * 100)))
        for _ in range(400)
    ]
    assert sum(change > demand.buffer for change in more) < 40
