"""Inputs reach the worker that holds the connection, in order, whatever moves or restarts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rayrtc import log_fields
from rayrtc.cluster.inputs import InputReader, InputWriter
from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import EndReason, InputEntry, Reservation
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.redis_time import RedisTime
from rayrtc.cluster.registry import Registry
from rayrtc.errors import ConnectionClosed, UnknownConnection
from rayrtc.settings import Settings
from tests.cluster.conftest import eventually, live, make_lease, make_settings
from tests.redis_server import RedisServer


@pytest.fixture
def writer(pools: RedisPools, registry: Registry, settings: Settings) -> InputWriter:
    return InputWriter(pools.commands, registry, settings)


@pytest.fixture
async def connection(settled: Registry) -> Reservation:
    await settled.renew(make_lease(), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease(), live(one))
    return one


@asynccontextmanager
async def reading(
    pools: RedisPools, settings: Settings, deliver: Callable[[InputEntry], None]
) -> AsyncIterator[None]:
    task = asyncio.create_task(InputReader(pools.blocking, "w1", settings).run(deliver))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_inputs_arrive_in_the_order_of_the_calls(
    writer: InputWriter, connection: Reservation, pools: RedisPools, settings: Settings
) -> None:
    got: list[InputEntry] = []
    await writer.set_input("c1", '["before the reader came"]')
    async with reading(pools, settings, got.append):
        await asyncio.gather(*(writer.set_input("c1", f"[{number}]") for number in range(200)))
        await writer.close_connection("c1")
        await eventually(lambda: len(got) == 202)
    assert [entry.args for entry in got[1:-1]] == [f"[{number}]" for number in range(200)]
    assert [entry.seq for entry in got[:-1]] == sorted({entry.seq for entry in got[:-1]})
    assert {entry.session for entry in got} == {connection.session}
    assert (got[-1].kind, got[-1].seq) == ("close", 0)


async def test_inputs_say_when_and_for_which_request_they_were_given(
    connection: Reservation, pools: RedisPools, registry: Registry, settings: Settings
) -> None:
    clock = RedisTime(pools.commands)
    running = asyncio.create_task(clock.run())
    writer = InputWriter(pools.commands, registry, settings, clock)
    await writer.set_input("c1", "[1]")  # a clock that is not known yet holds up nothing
    await eventually(lambda: clock.now() is not None)
    with log_fields.added(request_id="of-a-client"):
        await writer.set_input("c1", "[2]")
        await writer.close_connection("c1")
    got: list[InputEntry] = []
    async with reading(pools, settings, got.append):
        await eventually(lambda: len(got) == 3)
    assert [entry.request_id for entry in got] == ["", "of-a-client", "of-a-client"]
    assert [entry.at is None for entry in got] == [True, False, True]
    delay = clock.since(got[1].at)
    assert delay is not None
    assert delay < 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_last_inputs_are_kept_for_the_next_session(
    writer: InputWriter, connection: Reservation, registry: Registry
) -> None:
    assert await writer.last("c1") is None
    await writer.set_input("c1", "[1]")
    await writer.set_input("c1", "[2]")
    await registry.release("c1", connection.session, EndReason.ICE_FAILED)
    last = await writer.last("c1")
    assert last is not None
    assert last[1] == "[2]"


async def test_inputs_of_unknown_and_ended_connections_are_refused(
    writer: InputWriter, connection: Reservation, registry: Registry, pools: RedisPools
) -> None:
    for send in (lambda: writer.set_input("c9", "[1]"), lambda: writer.close_connection("c9")):
        with pytest.raises(UnknownConnection):
            await send()
    await registry.release("c1", connection.session, EndReason.CLIENT_CLOSED)
    for send in (lambda: writer.set_input("c1", "[1]"), lambda: writer.close_connection("c1")):
        with pytest.raises(ConnectionClosed):
            await send()
    assert await pools.commands.keys("*c9*") == [], "no state is created"


async def test_inputs_follow_a_connection_that_moves_meanwhile(
    writer: InputWriter,
    settled: Registry,
    pools: RedisPools,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await settled.renew(make_lease("w0"), [])
    one = await settled.reserve("echo", 3, "c1")
    await settled.renew(make_lease("w1"), [])
    known = settled.known

    async def moved_after(connection_id: str, stream: str | None = None) -> object:
        record = await known(connection_id, stream)
        await settled.move(one, ["w0"])
        return record

    monkeypatch.setattr(settled, "known", moved_after)
    got: list[InputEntry] = []
    async with reading(pools, settings, got.append):
        await writer.set_input("c1", "[1]")
        await eventually(lambda: len(got) == 1)
    assert got[0].session > one.session


async def test_a_worker_that_does_not_read_costs_a_bounded_stream(
    writer: InputWriter, connection: Reservation, pools: RedisPools, settings: Settings
) -> None:
    key = Keys(settings.cluster).worker_inputs("w1")
    async with pools.commands.pipeline(transaction=False) as pipe:
        for _ in range(6000):
            pipe.xadd(key, {"entry": "x"})
        await pipe.execute()
    await writer.set_input("c1", "[1]")
    assert await pools.commands.xlen(key) < 4400
    assert await pools.commands.pttl(key) > 0


async def test_delivered_entries_leave_redis(
    writer: InputWriter, connection: Reservation, pools: RedisPools, settings: Settings
) -> None:
    got: list[InputEntry] = []
    key = Keys(settings.cluster).worker_inputs("w1")
    async with reading(pools, settings, got.append):
        for number in range(50):
            await writer.set_input("c1", f"[{number}]")
        await eventually(lambda: len(got) == 50)

        async def trimmed() -> bool:
            return await pools.commands.xlen(key) <= 1

        await eventually(trimmed)


async def test_neither_foreign_entries_nor_a_failing_receiver_stop_the_reader(
    writer: InputWriter, connection: Reservation, pools: RedisPools, settings: Settings
) -> None:
    key = Keys(settings.cluster).worker_inputs("w1")
    got: list[str] = []

    def deliver(entry: InputEntry) -> None:
        if entry.args == "[0]":
            raise RuntimeError("a handler's mistake")
        got.append(entry.args)

    async with reading(pools, settings, deliver):
        await pools.commands.xadd(key, {"entry": "{"})
        await pools.commands.xadd(key, {"foreign": "x"})
        await writer.set_input("c1", "[0]")
        await writer.set_input("c1", "[1]")
        await eventually(lambda: got == ["[1]"])


async def test_a_connection_named_like_a_worker_does_no_harm(
    writer: InputWriter, settled: Registry, pools: RedisPools, settings: Settings
) -> None:
    await settled.renew(make_lease(), [])
    await settled.reserve("echo", 3, "w1")
    got: list[InputEntry] = []
    async with reading(pools, settings, got.append):
        await writer.set_input("w1", "[1]")
        await writer.set_input("w1", "[2]")
        await eventually(lambda: len(got) == 2)


async def test_the_reader_goes_on_after_redis_was_killed(own_redis: RedisServer) -> None:
    settings = make_settings(own_redis.url)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    writer = InputWriter(pools.commands, registry, settings)
    await registry.renew(make_lease(), [])
    await asyncio.sleep(0.12)
    one = await registry.reserve("echo", 3, "c1")
    await registry.renew(make_lease(), live(one))
    got: list[InputEntry] = []
    async with reading(pools, settings, got.append):
        for number in range(3):
            await writer.set_input("c1", f"[{number}]")
        await eventually(lambda: len(got) == 3)
        own_redis.kill()
        await asyncio.sleep(0.3)
        own_redis.start()
        await registry.renew(make_lease(), live(one))
        for number in range(3, 6):
            await writer.set_input("c1", f"[{number}]")
        await eventually(lambda: len(got) == 6)
    await pools.aclose()
    assert [entry.args for entry in got] == [f"[{number}]" for number in range(6)]
    assert [entry.seq for entry in got] == sorted({entry.seq for entry in got})


async def test_a_stream_that_began_anew_with_smaller_ids_is_read_from_its_start(
    own_redis: RedisServer,
) -> None:
    """The clock of the Redis that took over may be behind."""
    settings = make_settings(own_redis.url)
    pools = RedisPools(settings)
    key = Keys(settings.cluster).worker_inputs("w1")
    got: list[InputEntry] = []
    entry = InputEntry(kind="input", connection_id="c1", session=1, seq=1)
    reader = InputReader(pools.blocking, "w1", settings)
    for count, entry_id in enumerate(("9000-0", "5000-0"), start=1):
        await pools.commands.xadd(key, {"entry": entry.model_dump_json()}, id=entry_id)
        task = asyncio.create_task(reader.run(got.append))
        await eventually(lambda count=count: len(got) == count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        own_redis.kill()
        own_redis.start()
    await pools.aclose()
