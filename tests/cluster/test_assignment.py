"""Who gets which slot: the limit is exact, the load is spread, a failing Redis is an answer."""

import asyncio
from collections import Counter

import pytest

from rayrtc.cluster.models import EndReason, LiveConnection, Reservation, WorkerState
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConcurrencyLimitReached, ConnectionAlreadyExists, NoWorkerAvailable
from rayrtc.settings import Settings
from tests.cluster.conftest import SETTLE, live, make_lease, make_settings
from tests.redis_server import RedisServer


def filled(worker_id: str, count: int) -> list[LiveConnection]:
    return [
        LiveConnection(connection_id=f"{worker_id}-{number}", session=1, stream="other")
        for number in range(count)
    ]


async def test_200_at_once_through_two_replicas_get_exactly_the_limit(
    settled: Registry, redis_url: str
) -> None:
    # long times: what is reserved must not end before the last is refused
    settings = make_settings(redis_url, lease_ttl=60, reservation_ttl=60)
    pools = RedisPools(settings)
    replicas = [Registry(pools.commands, settings), Registry(pools.commands, settings)]
    for worker_id in ("w1", "w2"):
        await replicas[0].renew(make_lease(worker_id), [])
    results = await asyncio.gather(
        *(replicas[number % 2].reserve("echo", 3, f"c{number}") for number in range(200)),
        return_exceptions=True,
    )
    taken = [result for result in results if isinstance(result, Reservation)]
    refused = [result for result in results if isinstance(result, ConcurrencyLimitReached)]
    assert (len(taken), len(refused)) == (3, 197)
    assert refused[0].body()["meta"]["limit"] == 3

    await settled.release(taken[0].connection_id, taken[0].session, EndReason.CLIENT_CLOSED)
    results = await asyncio.gather(
        *(replicas[number % 2].reserve("echo", 3, f"d{number}") for number in range(50)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Reservation) for result in results) == 1
    await pools.aclose()


async def test_one_id_at_once_through_two_replicas_is_taken_once(
    settled: Registry, settings: Settings
) -> None:
    """Defect 4: two offers with one id could both succeed."""
    pools = RedisPools(settings)
    replicas = [settled, Registry(pools.commands, settings)]
    await settled.renew(make_lease("w1"), [])
    results = await asyncio.gather(
        *(replicas[number % 2].reserve("echo", 99, "c1") for number in range(50)),
        return_exceptions=True,
    )
    await pools.aclose()
    assert sum(isinstance(result, Reservation) for result in results) == 1
    assert sum(isinstance(result, ConnectionAlreadyExists) for result in results) == 49


async def test_slots_of_all_workers_are_the_limit_of_the_cluster(settled: Registry) -> None:
    for worker_id in ("w1", "w2", "w3"):
        await settled.renew(make_lease(worker_id, slots=4), [])
    results = await asyncio.gather(
        *(settled.reserve("echo", 99, f"c{number}") for number in range(20)),
        return_exceptions=True,
    )
    taken = Counter(result.worker_id for result in results if isinstance(result, Reservation))
    assert taken == {"w1": 4, "w2": 4, "w3": 4}
    assert sum(isinstance(result, NoWorkerAvailable) for result in results) == 8


async def test_the_limit_is_told_before_the_lack_of_workers(settled: Registry) -> None:
    await settled.renew(make_lease(slots=1), [])
    await settled.reserve("echo", 1, "c1")
    with pytest.raises(ConcurrencyLimitReached):
        await settled.reserve("echo", 1, "c2")
    with pytest.raises(NoWorkerAvailable):
        await settled.reserve("echo", 2, "c2")
    with pytest.raises(ConnectionAlreadyExists):
        await settled.reserve("echo", 1, "c1")


async def test_only_workers_that_can_take_it_are_chosen(settled: Registry) -> None:
    await settled.renew(make_lease("other", streams=("video",)), [])
    await settled.renew(make_lease("draining", state=WorkerState.DRAINING), [])
    await settled.renew(make_lease("full", slots=2), filled("full", 2))
    await settled.renew(make_lease("excluded"), [])
    with pytest.raises(NoWorkerAvailable):
        await settled.reserve("echo", 9, "c1", exclude=["excluded"])
    await settled.renew(make_lease("good", load=1.0), filled("good", 7))
    one = await settled.reserve("echo", 9, "c1", exclude=["excluded"])
    assert one.worker_id == "good"


async def test_the_less_loaded_of_two_is_chosen(settled: Registry) -> None:
    await settled.renew(make_lease("busy", load=0.6), [])
    await settled.renew(make_lease("calm", load=0.1), filled("calm", 4))
    for number in range(2):
        assert (await settled.reserve("echo", 99, f"c{number}")).worker_id == "calm"


async def test_the_emptier_of_two_equally_loaded_is_chosen(settled: Registry) -> None:
    await settled.renew(make_lease("half", load=0.32), filled("half", 4))
    await settled.renew(make_lease("quarter", load=0.33), filled("quarter", 2))
    assert (await settled.reserve("echo", 99, "c1")).worker_id == "quarter"


async def test_ties_are_broken_at_random(settled: Registry) -> None:
    chosen: Counter[str] = Counter()
    for worker_id in ("w1", "w2", "w3", "w4"):
        await settled.renew(make_lease(worker_id), [])
    for number in range(80):
        one = await settled.reserve("echo", 99, f"c{number}")
        chosen[one.worker_id] += 1
        await settled.release(one.connection_id, one.session, EndReason.CLIENT_CLOSED)
        if number % 10 == 0:
            for worker_id in ("w1", "w2", "w3", "w4"):
                await settled.renew(make_lease(worker_id), [])
    assert len(chosen) == 4
    assert max(chosen.values()) < 50


async def test_a_burst_does_not_all_go_to_the_least_loaded(settled: Registry) -> None:
    """A lease's load is a second old: what was assigned since counts, too."""
    await settled.renew(make_lease("w1", load=0.2), [])
    await settled.renew(make_lease("w2", load=0.0), [])
    chosen = Counter(
        [(await settled.reserve("echo", 99, f"c{number}")).worker_id for number in range(8)]
    )
    assert chosen["w1"] >= 2


async def test_a_repeated_call_is_the_same_reservation(
    settled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool repeats a command whose answer was lost; that must not be a conflict with itself."""
    monkeypatch.setattr("rayrtc.cluster.registry.secrets.token_hex", lambda _: "same")
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 1, "c1")
    assert await settled.reserve("echo", 1, "c1") == one
    await settled.renew(make_lease(), live(one))
    with pytest.raises(ConnectionAlreadyExists):
        await settled.reserve("echo", 1, "c1")


@pytest.mark.parametrize("fault", ["killed", "silent"])
async def test_without_redis_there_is_no_worker_and_nobody_waits_for_ever(
    own_redis: RedisServer, fault: str
) -> None:
    settings = make_settings(own_redis.url)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    await registry.renew(make_lease(), [])
    await asyncio.sleep(SETTLE)
    if fault == "killed":
        own_redis.kill()
    else:
        own_redis.pause()
    async with asyncio.timeout(20):
        results = await asyncio.gather(
            *(registry.reserve("echo", 3, f"c{number}") for number in range(100)),
            return_exceptions=True,
        )
    if fault == "silent":
        own_redis.resume()
    assert {type(result) for result in results} == {NoWorkerAvailable}
    assert {str(result) for result in results} == {"registry unreachable"}
    await pools.aclose()


async def test_reservations_go_on_after_a_silence(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url, lease_ttl=10)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    await registry.renew(make_lease(), [])
    await asyncio.sleep(SETTLE)
    own_redis.pause()
    with pytest.raises(NoWorkerAvailable):
        await registry.reserve("echo", 99, "c1")
    own_redis.resume()
    results = await asyncio.gather(*(registry.reserve("echo", 9, f"d{n}") for n in range(5)))
    assert len({one.connection_id for one in results}) == 5
    await pools.aclose()


async def test_spare_workers_get_what_no_other_can_take(settled: Registry) -> None:
    """So that they become idle, and may leave."""
    for worker_id in ("s1", "s2"):
        await settled.renew(make_lease(worker_id, slots=4, spare=True), [])
    await settled.renew(make_lease("w1", slots=4, load=0.9), filled("w1", 1))
    taken = [(await settled.reserve("echo", 99, f"c{number}")).worker_id for number in range(5)]
    assert taken[:3] == ["w1"] * 3
    assert set(taken[3:]) <= {"s1", "s2"}
