"""The pool's size: too small refuses calls, too large costs money, a wrong victim ends a call."""

from typing import Any

from workers.pool import (
    LEFT_MAX,
    ROOM_WAIT,
    PoolLimits,
    PoolWorker,
    WorkerPhase,
    backoff,
    emptiest_node,
    plan,
    wanted_workers,
)

LIMITS = PoolLimits(workers_min=1, workers_max=4, slots=4, max_sessions=100, memory_max=1000)


def worker(worker_id: str, **changes: Any) -> PoolWorker:
    state: dict[str, Any] = {"phase": WorkerPhase.READY, "code_version": "1", "node": "a"}
    return PoolWorker(worker_id, **{**state, **changes})


def test_a_free_slot_is_always_ready() -> None:
    for calls in range(14):
        workers = wanted_workers(calls, 1, LIMITS)
        assert workers == LIMITS.workers_max or workers * LIMITS.slots > calls


def test_a_pool_of_single_slots_has_a_spare_worker() -> None:
    limits = PoolLimits(workers_min=1, workers_max=9, slots=1, max_sessions=1, memory_max=1)
    assert [wanted_workers(calls, 1, limits) for calls in (0, 1, 5, 20)] == [1, 2, 6, 9]


def test_size_stays_within_its_bounds() -> None:
    assert wanted_workers(0, 3, LIMITS) == 3, "one for each node"
    assert wanted_workers(0, 9, LIMITS) == 4
    assert wanted_workers(1000, 1, LIMITS) == 4
    assert wanted_workers(0, 0, LIMITS) == 1


def test_new_workers_go_to_the_emptiest_node() -> None:
    assert emptiest_node(["a", "b"], ["a", None, "gone"]) == "b"
    assert emptiest_node([], ["a"]) is None
    limits = PoolLimits(workers_min=4, workers_max=4, slots=4, max_sessions=9, memory_max=9)
    assert sorted(str(n) for n in plan([worker("1")], ["a", "b"], limits, "1").start) == [
        "a",
        "b",
        "b",
    ]


def test_a_node_that_joins_a_full_pool_gets_a_worker() -> None:
    """A node that crashed comes back after its worker was replaced on another."""
    on_a = [worker("1"), worker("2")]
    joined = plan(on_a, ["a", "b"], LIMITS, "1")
    assert (joined.wanted, joined.start) == (2, ("b",))
    on_both = [*on_a, worker("3", node="b", phase=WorkerPhase.STARTING)]
    assert plan(on_both, ["a", "b"], LIMITS, "1").start == ()
    no_room = [*on_a, worker("3")]
    assert plan(no_room, ["a", "b"], LIMITS, "1").start == (), "not again and again"
    full = [*on_a, worker("3"), worker("4")]
    assert plan(full, ["a", "b"], LIMITS, "1").start == (), "never more than the most"


def test_starting_workers_count() -> None:
    assert not plan([worker("1", phase=WorkerPhase.STARTING)], ["a"], LIMITS, "1").start


def test_grows_with_calls() -> None:
    current = plan([worker("1", calls=3)], ["a"], LIMITS, "1")
    assert (current.wanted, len(current.start)) == (2, 1)


def test_only_idle_workers_leave_and_only_after_a_quiet_period() -> None:
    idle = worker("idle", idle_for=100)
    busy = worker("busy", calls=1)
    fresh = worker("fresh", idle_for=1)
    assert not plan([idle, busy, fresh], ["a"], LIMITS, "1", oversized_for=10).drain
    assert set(plan([idle, busy, fresh], ["a"], LIMITS, "1", oversized_for=60).drain) == {"idle"}


def test_the_last_worker_of_a_node_stays() -> None:
    workers = [worker(str(n), node=node, idle_for=99) for n, node in enumerate("aaab")]
    drained = plan(workers, ["a", "b"], LIMITS, "1", oversized_for=99).drain
    assert len(drained) == 2
    assert "3" not in drained


def test_worn_workers_are_replaced_one_after_the_other() -> None:
    fat = worker("2", memory=2000, sessions=1)
    first = plan([worker("1", sessions=100), fat, worker("3")], ["a"], LIMITS, "1")
    assert set(first.drain) == {"1"}
    replacing = [
        worker("1", sessions=100, phase=WorkerPhase.DRAINING),
        fat,
        worker("4", phase=WorkerPhase.STARTING),
    ]
    assert not plan(replacing, ["a"], LIMITS, "1").drain
    assert set(plan([fat, worker("4")], ["a"], LIMITS, "1").drain) == {"2"}


def test_a_worker_that_is_large_from_its_start_is_not_replaced_for_ever() -> None:
    """Its models are in memory: the next one would be as large."""
    assert not plan([worker("1", memory=2000)], ["a"], LIMITS, "1").drain


def test_a_worker_full_of_handlers_that_do_not_return_is_replaced() -> None:
    current = plan([worker("1", left_behind=LEFT_MAX, calls=2)], ["a"], LIMITS, "1")
    assert set(current.drain) == {"1"}
    assert len(current.start) == 1
    assert not plan([worker("1", left_behind=LEFT_MAX - 1)], ["a"], LIMITS, "1").drain


def test_a_worn_worker_alone_is_replaced_at_once() -> None:
    current = plan([worker("1", sessions=100, calls=2)], ["a"], LIMITS, "1")
    assert set(current.drain) == {"1"}
    assert len(current.start) == 1


def test_former_code_serves_until_the_new_is_ready() -> None:
    former = [worker("1"), worker("2", calls=3)]
    current = plan(former, ["a"], LIMITS, "2")
    assert len(current.start) == 1
    assert not current.drain
    starting = [*former, worker("3", code_version="2", phase=WorkerPhase.STARTING)]
    assert not plan(starting, ["a"], LIMITS, "2").drain
    ready = [*former, worker("3", code_version="2")]
    assert set(plan(ready, ["a"], LIMITS, "2").drain) == {"1", "2"}


def test_reloads_in_a_row_do_not_pile_up_workers() -> None:
    limits = PoolLimits(workers_min=2, workers_max=2, slots=4, max_sessions=9, memory_max=9)
    former = [worker("1", calls=1), worker("2", calls=1), worker("3", code_version="2")]
    assert set(plan(former, ["a"], limits, "3").drain) == {"3"}


def test_backoff_grows_to_its_limit() -> None:
    waits = [backoff(failures) for failures in range(12)]
    assert waits[:4] == [0, 1, 2, 4]
    assert waits[-1] == 30


def test_a_worker_whose_event_loop_stays_late_is_replaced() -> None:
    assert plan([worker("1", late_for=5)], ["a"], LIMITS, "1").drain == {}
    late = plan([worker("1", late_for=30)], ["a"], LIMITS, "1")
    assert "late" in late.drain["1"]
    assert late.start == ("a",)


def test_slots_of_a_busy_worker_are_no_room() -> None:
    """Else a cluster of busy workers refuses calls and does not grow."""
    assert plan([worker("1", calls=1)], ["a"], LIMITS, "1").wanted == 1
    assert plan([worker("1", calls=1, busy=True)], ["a"], LIMITS, "1").wanted == 2


def test_workers_that_serve_no_stream_go() -> None:
    gone = plan([worker("1"), worker("2", calls=1)], ["a"], LIMITS, "1", needed=False)
    assert (gone.wanted, gone.start, set(gone.drain)) == (0, (), {"1", "2"})


def test_without_room_for_new_code_the_former_makes_some() -> None:
    """A cluster whose CPUs are all taken by the workers of the former code."""
    former = [worker(n, node=n, calls=int(n)) for n in ("1", "2")]
    new = worker("3", code_version="2", phase=WorkerPhase.STARTING)
    assert plan([*former, new], ["1", "2"], LIMITS, "2").drain == {}
    starting = worker("3", code_version="2", phase=WorkerPhase.STARTING, unplaced_for=ROOM_WAIT - 1)
    assert plan([*former, starting], ["1", "2"], LIMITS, "2").drain == {}, "Ray is only slow"
    waiting = worker("3", code_version="2", phase=WorkerPhase.STARTING, unplaced_for=ROOM_WAIT + 1)
    assert set(plan([*former, waiting], ["1", "2"], LIMITS, "2").drain) == {"1"}
    leaving = worker("1", phase=WorkerPhase.DRAINING)
    assert plan([leaving, former[1], waiting], ["1", "2"], LIMITS, "2").drain == {}, "one by one"


def test_workers_of_former_code_serve_until_others_can() -> None:
    """A stream was moved to workers with a GPU: if those cannot start, it must not be gone."""
    workers = [worker("1", calls=3), worker("2", code_version="2")]
    waiting = plan(workers, ["a"], LIMITS, "2", needed=False, others_ready=False)
    assert set(waiting.drain) == {"2"}
    assert set(plan(workers, ["a"], LIMITS, "2", needed=False).drain) == {"1", "2"}


def test_late_workers_go_one_after_the_other() -> None:
    late = [worker("1", late_for=30), worker("2", phase=WorkerPhase.DRAINING)]
    assert plan(late, ["a"], LIMITS, "1").drain == {}


def test_the_buffer_for_what_comes_makes_the_pool_larger() -> None:
    assert wanted_workers(4, 1, LIMITS, buffer=1) == 2, "the least buffer is half a worker"
    assert wanted_workers(4, 1, LIMITS, buffer=7) == 3
    assert len(plan([worker("1", calls=1)], ["a"], LIMITS, "1", buffer=6).start) == 1


def test_workers_that_are_too_many_are_spared() -> None:
    workers = [worker("1", calls=1), worker("2", calls=2), worker("3"), worker("4", calls=1)]
    current = plan(workers, ["a"], LIMITS, "1")
    assert (current.wanted, current.spare, current.drain) == (2, {"3", "1"}, {})


def test_spare_workers_remain_so_until_they_are_needed() -> None:
    workers = [worker("1"), worker("2", calls=3, spare=True), worker("3", calls=1)]
    assert plan(workers, ["a"], LIMITS, "1").spare == {"2"}
    workers = [worker("1", calls=3), worker("2", calls=3, spare=True), worker("3", calls=3)]
    assert plan(workers, ["a"], LIMITS, "1").spare == set()


def test_a_worker_that_starts_spares_no_other() -> None:
    starting = worker("2", phase=WorkerPhase.STARTING)
    assert plan([worker("1"), starting], ["a"], LIMITS, "1").spare == set()
