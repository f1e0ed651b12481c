"""Broken, `rayrtc bench` would tell a wrong capacity, or never end."""

from hypothesis import given
from hypothesis import strategies as st

from capacity.ramp import Ramp, Verdict

CARRIED, BROKEN = Verdict.CARRIED, Verdict.BROKEN
FULL, GENERATOR = Verdict.FULL, Verdict.GENERATOR


def run(ramp: Ramp, *verdicts: Verdict) -> list[int | None]:
    """What is tried while these are the verdicts, and what would be next."""
    tried = [ramp.calls]
    for verdict in verdicts:
        assert ramp.calls is not None
        ramp.take(ramp.calls, verdict)
        tried.append(ramp.calls)
    return tried


def test_it_steps_up_repeats_what_broke_and_halves_the_rest() -> None:
    ramp = Ramp(step=8, most=100)
    tried = run(ramp, CARRIED, CARRIED, BROKEN, BROKEN, CARRIED, BROKEN, BROKEN)
    assert tried == [8, 16, 24, 24, 20, 22, 22, None]
    assert (ramp.carried, ramp.broken) == (20, 22)


def test_a_hiccup_is_no_limit() -> None:
    ramp = Ramp(step=4, most=8)
    assert run(ramp, BROKEN, CARRIED, GENERATOR, CARRIED) == [4, 4, 8, 8, None]
    assert (ramp.carried, ramp.broken) == (8, None)


def test_it_ends_where_there_is_no_more_room() -> None:
    ramp = Ramp(step=10, most=100)
    ramp.take(10, CARRIED)
    ramp.take(16, FULL)  # 20 were wanted
    assert (ramp.calls, ramp.carried, ramp.last) == (None, 16, FULL)


def test_calls_that_fit_and_are_too_many_are_halved_as_others_are() -> None:
    ramp = Ramp(step=10, most=100)
    ramp.take(10, CARRIED)
    assert (ramp.take(16, BROKEN), ramp.calls, ramp.repeats) == (None, 16, True)
    assert run(ramp, BROKEN, CARRIED, CARRIED) == [16, 13, 14, None]
    assert ramp.carried == 14


def test_a_load_that_is_too_slow_says_nothing_of_the_deployment() -> None:
    ramp = Ramp(step=10, most=100)
    assert run(ramp, CARRIED, GENERATOR, GENERATOR) == [10, 20, 20, None]
    assert (ramp.carried, ramp.broken, ramp.last) == (10, None, GENERATOR)


def test_what_breaks_at_fewer_calls_was_not_carried_at_more() -> None:
    ramp = Ramp(step=10, most=100)
    ramp.take(10, CARRIED)
    ramp.take(20, CARRIED)
    ramp.take(15, BROKEN)  # others have taken slots meanwhile
    ramp.take(15, BROKEN)
    assert (ramp.carried, ramp.broken) == (10, 15)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 250), st.data())
def test_it_finds_any_capacity_to_a_quarter_of_a_step(
    capacity: int, step: int, most: int, data: st.DataObject
) -> None:
    ramp = Ramp(step, most)
    tried = []
    while ramp.calls is not None:
        tried.append(ramp.calls)
        if ramp.calls > capacity:
            verdict = BROKEN
        else:  # no hiccup comes twice in a row
            verdict = data.draw(st.sampled_from([CARRIED, CARRIED if ramp.repeats else BROKEN]))
        ramp.take(ramp.calls, verdict)
    assert min(tried) > 0
    assert max(tried) <= min(most, capacity + step)
    assert len(tried) <= 2 * (most // step + 8)
    if capacity >= most:
        assert ramp.carried == most
    else:
        assert ramp.carried <= capacity < ramp.carried + max(1, step // 4)
