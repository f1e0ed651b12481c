"""Leases, records and slots through their lives. If these fail, calls leak slots or vanish."""

import asyncio

import pytest

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import (
    ConnectionState,
    EndReason,
    LiveConnection,
    StreamUsage,
    WorkerState,
)
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConnectionAlreadyExists, NoWorkerAvailable, UnknownConnection
from rayrtc.settings import Settings
from tests.cluster.conftest import SETTLE, eventually, live, make_lease, make_settings


async def usage(registry: Registry, stream: str = "echo") -> tuple[int, int]:
    (counted,) = await registry.streams([stream])
    return counted.connections, counted.reserved


async def test_a_connection_from_reservation_to_release(settled: Registry) -> None:
    lease = make_lease(load=0.25, memory=7, code_version="abc")
    assert (await settled.renew(lease, [])).conflicts == {}

    reservation = await settled.reserve("echo", 3, "c1")
    assert (reservation.worker_id, reservation.address) == ("w1", "http://w1:1")
    record = await settled.find("c1")
    assert record is not None
    assert record.state is ConnectionState.RESERVED
    assert record.session == reservation.session
    assert record.address == "http://w1:1"
    assert await usage(settled) == (0, 1)

    assert (await settled.renew(lease, live(reservation))).conflicts == {}
    assert await usage(settled) == (1, 0)
    (worker,) = await settled.workers()
    assert worker.model_dump(include=set(lease.model_dump())) == lease.model_dump()
    assert (worker.used, worker.reserved) == (1, 0)
    (record,) = await settled.connections()
    assert record.state is ConnectionState.LIVE
    assert record.created == reservation.session

    await settled.release("c1", reservation.session, EndReason.CLIENT_CLOSED)
    assert await usage(settled) == (0, 0)
    assert await settled.connections() == []
    ended = await settled.find("c1")
    assert ended is not None
    assert (ended.state, ended.reason) == (ConnectionState.CLOSED, EndReason.CLIENT_CLOSED)
    (worker,) = await settled.workers()
    assert (worker.used, worker.reserved) == (0, 0)


async def test_the_first_reason_stays(settled: Registry) -> None:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.release("c1", one.session, EndReason.ICE_FAILED)
    await settled.release("c1", one.session, EndReason.CLIENT_CLOSED)
    record = await settled.find("c1")
    assert record is not None
    assert record.reason is EndReason.ICE_FAILED


async def test_an_id_can_be_used_again_with_a_later_session(settled: Registry) -> None:
    await settled.renew(make_lease(), [])
    sessions = []
    for _ in range(5):  # faster than the clock's milliseconds
        one = await settled.reserve("echo", 1, "c1")
        sessions.append(one.session)
        await settled.release("c1", one.session, EndReason.CLIENT_CLOSED)
    assert sessions == sorted(set(sessions))


async def test_releasing_an_older_session_leaves_the_newer_alone(settled: Registry) -> None:
    """Defect 4: what is late for an older session is keyed by its session, not by its id."""
    await settled.renew(make_lease(), [])
    old = await settled.reserve("echo", 1, "c1")
    await settled.release("c1", old.session, EndReason.CLIENT_CLOSED)
    new = await settled.reserve("echo", 1, "c1")
    await settled.release("c1", old.session, EndReason.CONNECT_TIMEOUT)
    record = await settled.find("c1")
    assert record is not None
    assert (record.session, record.state) == (new.session, ConnectionState.RESERVED)


async def test_nothing_is_reserved_while_workers_return_to_an_empty_redis(
    registry: Registry,
) -> None:
    with pytest.raises(NoWorkerAvailable):
        await registry.reserve("echo", 3, "c1")
    await registry.renew(make_lease(), [])
    with pytest.raises(NoWorkerAvailable, match="rebuilt") as refused:
        await registry.reserve("echo", 3, "c1")
    assert refused.value.retry_after == 1
    await asyncio.sleep(SETTLE + 0.02)
    await registry.renew(make_lease(), [])
    assert await registry.reserve("echo", 3, "c1")


async def test_a_new_registry_is_complete_with_its_first_worker(registry: Registry) -> None:
    await registry.begin()
    with pytest.raises(NoWorkerAvailable):
        await registry.reserve("echo", 3, "c1")
    await registry.renew(make_lease(), [])
    assert (await registry.reserve("echo", 3, "c1")).worker_id == "w1"


async def test_an_emptied_registry_is_not_taken_for_a_new_one(
    registry: Registry, pools: RedisPools
) -> None:
    await registry.begin()
    await registry.renew(make_lease(), [])
    await pools.commands.flushall()
    await registry.renew(make_lease(), [])
    with pytest.raises(NoWorkerAvailable, match="rebuilt"):
        await registry.reserve("echo", 3, "c1")


async def test_an_unconfirmed_reservation_frees_everything_by_itself(settled: Registry) -> None:
    lease = make_lease(slots=1)

    async def renew_and_try() -> bool:
        await settled.renew(lease, [])
        try:
            await settled.reserve("echo", 1, "c1")
        except ConnectionAlreadyExists:
            return False
        return True

    assert await renew_and_try()
    assert not await renew_and_try()
    await eventually(renew_and_try, timeout=3)


async def test_a_slow_confirmation_takes_its_slot_back(settled: Registry) -> None:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 1, "c1")
    await asyncio.sleep(1.25)
    assert await settled.find("c1") is None
    assert (await settled.renew(make_lease(), live(one))).conflicts == {}
    assert await usage(settled) == (1, 0)


async def test_a_worker_that_stops_renewing_is_reaped_once(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease("w1"), live(one))
    assert await settled.expired() == []
    assert await settled.reap(["w1"]) == [], "its lease has not ended"
    await asyncio.sleep(1.05)
    await settled.renew(make_lease("w2"), [])

    assert await usage(settled) == (0, 0), "slots are free before anybody reaps"
    assert await settled.expired() == ["w1"]
    (lost,) = await settled.reap(["w1", "w2"])
    assert (lost.connection_id, lost.session) == ("c1", one.session)
    assert (lost.state, lost.reason) == (ConnectionState.CLOSED, EndReason.WORKER_LOST)
    assert await settled.reap(["w1", "w2"]) == []
    assert await settled.expired() == []
    assert [worker.worker_id for worker in await settled.workers()] == ["w2"]


async def test_two_reapers_share_the_lost(settled: Registry, settings: Settings) -> None:
    pools = RedisPools(settings)
    other = Registry(pools.commands, settings)
    for number in range(40):
        await settled.renew(
            make_lease(f"w{number}"),
            [LiveConnection(connection_id=f"c{number}", session=1, stream="echo")],
        )
    await asyncio.sleep(1.05)
    found = []
    for at in range(0, 40, 10):
        workers = [f"w{number}" for number in range(at, at + 10)]
        for lost in await asyncio.gather(settled.reap(workers), other.reap(workers)):
            found += [record.connection_id for record in lost]
    await pools.aclose()
    assert sorted(found) == sorted(f"c{number}" for number in range(40))


async def test_a_lost_worker_that_returns_must_close_its_connections(settled: Registry) -> None:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease(), live(one))
    await asyncio.sleep(1.05)
    await settled.reap(["w1"])
    assert (await settled.renew(make_lease(), live(one))).conflicts == {"c1": EndReason.WORKER_LOST}
    assert await usage(settled) == (0, 0)


async def test_a_late_worker_gives_way_to_who_took_its_slot(settled: Registry) -> None:
    """Between the end of a lease and the reaper's next look the limit holds, too."""
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.renew(make_lease("w1"), live(one))
    await asyncio.sleep(1.05)
    await settled.renew(make_lease("w2"), [])
    await settled.reserve("echo", 1, "c2")

    assert (await settled.renew(make_lease("w1"), live(one))).conflicts == {
        "c1": EndReason.WORKER_LOST
    }
    assert await usage(settled) == (0, 1)


async def test_a_late_worker_keeps_a_slot_that_nobody_took(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.renew(make_lease("w1"), live(one))
    await asyncio.sleep(1.05)
    assert (await settled.renew(make_lease("w1"), live(one))).conflicts == {}
    assert await usage(settled) == (1, 0)


async def test_withdraw_ends_a_worker_at_once(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease("w1"), live(one))
    two = await settled.reserve("echo", 3, "c2")

    lost = await settled.withdraw("w1", EndReason.WORKER_STOPPED)
    assert {record.connection_id for record in lost} == {"c1", "c2"}
    assert {record.reason for record in lost} == {EndReason.WORKER_STOPPED}
    assert await settled.workers() == []
    assert await usage(settled) == (0, 0)
    assert await settled.withdraw("w1", EndReason.WORKER_STOPPED) == []

    await settled.renew(make_lease("w2"), [])
    moved = await settled.move(two, ["w1"])
    assert moved.worker_id == "w2"


async def test_withdraw_leaves_a_moved_connection_alone(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease("w2"), [])
    await settled.move(one, ["w1"])
    assert await settled.withdraw("w1", EndReason.WORKER_LOST) == []
    assert await usage(settled) == (0, 1)


async def test_renewal_after_a_loss_returns_everything(
    settled: Registry, pools: RedisPools
) -> None:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 2, "c1")
    await settled.renew(make_lease(), live(one))
    await pools.commands.flushall()

    assert (await settled.renew(make_lease(), live(one))).conflicts == {}
    record = await settled.find("c1")
    assert record is not None
    assert (record.session, record.state) == (one.session, ConnectionState.LIVE)
    assert (record.worker_id, record.address) == ("w1", "http://w1:1")
    assert await usage(settled) == (1, 0)
    with pytest.raises(NoWorkerAvailable, match="rebuilt"):
        await settled.reserve("echo", 2, "c2")


async def test_an_older_session_is_replaced(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease("w1"), live(one))
    await settled.renew(make_lease("w2"), [])
    two = await settled.move(one, ["w1"])

    assert (await settled.renew(make_lease("w1"), live(one))).conflicts == {
        "c1": EndReason.REPLACED
    }
    assert (await settled.renew(make_lease("w2"), live(two))).conflicts == {}
    assert await usage(settled) == (1, 0)
    by_id = {worker.worker_id: worker.used for worker in await settled.workers()}
    assert by_id == {"w1": 0, "w2": 1}


async def test_a_newer_session_wins_over_a_stale_record(
    settled: Registry, pools: RedisPools, settings: Settings
) -> None:
    """A replica that took over may lack the last writes."""
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 3, "c1")
    key = Keys(settings.cluster).connection("c1")
    await pools.commands.hset(key, mapping={"session": one.session - 5, "state": "closed"})  # type: ignore[misc]
    assert (await settled.renew(make_lease(), live(one))).conflicts == {}
    record = await settled.find("c1")
    assert record is not None
    assert (record.session, record.state) == (one.session, ConnectionState.LIVE)
    assert record.reason is None


async def test_the_end_of_an_older_worker_leaves_the_newer_session_alone(
    settled: Registry,
) -> None:
    """Both workers returned the id to an empty Redis before the older one was told."""
    old = LiveConnection(connection_id="c1", session=5, stream="echo")
    await settled.renew(make_lease("w1"), [old])
    await settled.renew(make_lease("w2"), [old.model_copy(update={"session": 6})])
    assert await settled.withdraw("w1", EndReason.WORKER_LOST) == []
    record = await settled.find("c1")
    assert record is not None
    assert (record.session, record.state) == (6, ConnectionState.LIVE)


async def test_a_connection_that_its_worker_forgot_expires(settled: Registry) -> None:
    """The worker ended it while Redis was away and could not say so."""
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.renew(make_lease(), live(one))

    async def closed() -> bool:
        await settled.renew(make_lease(), [])
        record = await settled.find("c1")
        return record is not None and record.state is ConnectionState.CLOSED

    assert not await closed()
    await eventually(closed, timeout=3)
    assert await settled.reserve("echo", 1, "c1")


async def test_move_takes_another_worker_and_keeps_the_streams_slot(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 1, "c1")
    with pytest.raises(NoWorkerAvailable):
        await settled.move(one, ["w1"])
    assert await usage(settled) == (0, 1), "a failed move gives nothing up"

    await settled.renew(make_lease("w2"), [])
    two = await settled.move(one, ["w1"])
    assert two.worker_id == "w2"
    assert two.session > one.session
    assert await usage(settled) == (0, 1)
    reserved = {worker.worker_id: worker.reserved for worker in await settled.workers()}
    assert reserved == {"w1": 0, "w2": 1}
    with pytest.raises(ConnectionAlreadyExists):
        await settled.move(one, ["w1"])


async def test_move_after_the_worker_gave_the_connection_back(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    await settled.renew(make_lease("w2"), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.release("c1", one.session, EndReason.REFUSED)
    two = await settled.move(one, [one.worker_id])
    assert two.worker_id != one.worker_id
    assert await usage(settled) == (0, 1)


async def test_a_session_is_replaced_in_one_step(settled: Registry) -> None:
    """Both slots pass over; the old worker learns it at its next renewal if it was not told."""
    await settled.renew(make_lease("w1", slots=1), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.renew(make_lease("w1", slots=1), live(one))
    for resumed in (0, one.session - 1, one.session + 1):
        with pytest.raises(ConnectionAlreadyExists):
            await settled.reserve("echo", 1, "c1", resumed=resumed)
    with pytest.raises(ConnectionAlreadyExists):
        await settled.reserve("other", 1, "c1", resumed=one.session)
    with pytest.raises(NoWorkerAvailable):
        await settled.reserve("echo", 1, "c1", ["w1"], resumed=one.session)
    assert await usage(settled) == (1, 0), "a failed attempt takes nothing away"

    await settled.renew(make_lease("w2", slots=1), [])
    two = await settled.reserve("echo", 1, "c1", ["w1"], resumed=one.session)
    assert two.replaced == one
    assert two.session > one.session
    assert await usage(settled) == (0, 1)
    reserved = {worker.worker_id: worker.reserved for worker in await settled.workers()}
    assert reserved == {"w1": 0, "w2": 1}
    renewal = await settled.renew(make_lease("w1", slots=1), live(one))
    assert renewal.conflicts == {"c1": EndReason.REPLACED}
    await settled.release("c1", one.session, EndReason.REPLACED)
    assert (await settled.renew(make_lease("w2", slots=1), live(two))).conflicts == {}
    assert await usage(settled) == (1, 0)

    await settled.release("c1", two.session, EndReason.CLIENT_CLOSED)
    three = await settled.reserve("echo", 1, "c1", resumed=two.session)
    assert three.replaced is None, "it had ended"


async def test_move_of_an_expired_reservation_is_refused(settled: Registry) -> None:
    await settled.renew(make_lease("w1"), [])
    one = await settled.reserve("echo", 1, "c1")
    await asyncio.sleep(1.25)
    with pytest.raises(NoWorkerAvailable, match="expired"):
        await settled.move(one)


async def test_unknown_ids(settled: Registry, pools: RedisPools, settings: Settings) -> None:
    assert await settled.find("nobody") is None
    with pytest.raises(UnknownConnection):
        await settled.known("nobody")
    await settled.release("nobody", 1, EndReason.CLIENT_CLOSED)
    assert await pools.commands.keys(f"{settings.cluster}:*nobody*") == [], "no state is created"
    assert await settled.streams([]) == []
    assert await settled.streams(["none"]) == [
        StreamUsage(stream="none", connections=0, reserved=0)
    ]


async def test_a_live_connection_is_known_while_it_returns_to_an_empty_redis(
    settled: Registry, pools: RedisPools
) -> None:
    """A client that reconnects in that moment must not be told 404."""
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 1, "c1")
    await settled.renew(make_lease(), live(one))
    await pools.commands.flushall()
    waiting = asyncio.create_task(settled.known("c1"))
    await asyncio.sleep(SETTLE / 2)
    await settled.renew(make_lease(), live(one))
    assert (await waiting).session == one.session


async def test_every_key_expires_and_has_one_hash_tag(
    settled: Registry, pools: RedisPools, settings: Settings
) -> None:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.reserve("echo", 3, "c2")
    await settled.renew(make_lease(state=WorkerState.DRAINING), live(one))
    keys = await pools.commands.keys("*")
    assert len(keys) == 8
    for key in keys:
        assert key.startswith(f"{settings.cluster}:{{registry}}:")
        assert await pools.commands.pttl(key) > 0, key


async def test_quiet_connections_keep_their_inputs_and_outputs(
    pools: RedisPools, redis_url: str
) -> None:
    settings = make_settings(redis_url, record_ttl=0.3)
    registry = Registry(pools.commands, settings)
    keys = Keys(settings.cluster)
    for key in (keys.inputs("c1"), keys.outputs("c1"), keys.outputs("c2")):
        await pools.commands.set(key, "x", px=300)
    connection = LiveConnection(connection_id="c1", session=1, stream="echo")
    for _ in range(8):
        await registry.renew(make_lease(), [connection])
        await asyncio.sleep(0.05)
    assert await pools.commands.exists(keys.inputs("c1"), keys.outputs("c1")) == 2
    assert not await pools.commands.exists(keys.outputs("c2"))
