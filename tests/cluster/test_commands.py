"""Commands of many tasks over one connection: each gets its own answer, or an error in time."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import DataError, ReadOnlyError, RedisError, ResponseError

from rayrtc.cluster import commands as shared
from rayrtc.cluster.redis import RedisPools
from tests.cluster.conftest import make_settings
from tests.redis_server import RedisServer


@pytest.fixture
async def redis(pools: RedisPools) -> Redis:
    return pools.commands


@pytest.fixture
async def own(own_redis: RedisServer) -> AsyncIterator[Redis]:
    pools = RedisPools(make_settings(own_redis.url))
    yield pools.commands
    await pools.aclose()


async def test_commands_take_effect_in_the_order_of_the_calls(redis: Redis) -> None:
    await asyncio.gather(*(redis.rpush("list", number) for number in range(2000)))
    assert await redis.lrange("list", 0, -1) == [str(number) for number in range(2000)]


async def test_each_task_gets_its_own_answer(redis: Redis) -> None:
    async def use(number: int) -> None:
        for step in range(20):
            await redis.set(f"key-{number}", f"{number} {step}")
            assert await redis.get(f"key-{number}") == f"{number} {step}"

    await asyncio.gather(*map(use, range(100)))


async def test_an_error_is_that_of_its_command_alone(redis: Redis) -> None:
    await redis.set("text", "x")
    answers = await asyncio.gather(
        redis.get("text"),
        redis.lpush("text", "y"),
        redis.set("bad", object()),  # type: ignore[arg-type]
        redis.get("text"),
        return_exceptions=True,
    )
    assert answers[0] == answers[3] == "x"
    assert isinstance(answers[1], ResponseError)
    assert isinstance(answers[2], DataError)


async def test_a_caller_that_leaves_takes_no_answer_of_another(redis: Redis) -> None:
    for turns in range(8):
        tasks = [asyncio.create_task(redis.echo(str(number))) for number in range(30)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert answer == str(number) or (
                number % 3 == 0 and isinstance(answer, asyncio.CancelledError)
            )


async def test_commands_go_on_when_their_connection_is_cut(redis: Redis, redis_url: str) -> None:
    async def use(number: int) -> None:
        for step in range(200):
            assert await redis.echo(f"{number} {step}") == f"{number} {step}"

    async with Redis.from_url(redis_url) as other, asyncio.TaskGroup() as users:
        for number in range(10):
            users.create_task(use(number))
        for _ in range(5):
            await asyncio.sleep(0.02)
            await other.client_kill_filter(_type="normal", skipme=True)
            await redis.ping()  # by the next connection: each command is cut once at most


async def test_all_that_wait_learn_that_redis_is_away(own: Redis, own_redis: RedisServer) -> None:
    await own.ping()
    own_redis.kill()
    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            *(own.get(str(number)) for number in range(2000)), return_exceptions=True
        )
    assert all(isinstance(answer, RedisError) for answer in answers)
    own_redis.start()
    assert await own.get("key") is None


async def test_a_redis_that_does_not_answer_is_given_up(
    own: Redis, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own.ping()
    monkeypatch.setattr(own._shared, "socket_timeout", 0.2)  # type: ignore[attr-defined]
    own_redis.pause()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(RedisError):
                await own.get("key")
    finally:
        own_redis.resume()
    assert await own.get("key") is None


async def test_a_connection_that_was_forgotten_on_its_way_is_left_before_a_lease_is_lost(
    own_redis: RedisServer,
) -> None:
    pumps: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, there = await asyncio.open_connection("127.0.0.1", own_redis.port)
        writers.extend((writer, there))
        for ends in ((reader, there), (far, writer)):
            pumps.append(asyncio.create_task(pump(*ends)))

    async with await asyncio.start_server(join, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        pools = RedisPools(make_settings(f"redis://127.0.0.1:{port}/0"))
        await pools.commands.ping()
        for forgotten in pumps:
            forgotten.cancel()
        begin = time.monotonic()
        assert await pools.commands.ping()
        assert time.monotonic() - begin < 4.5
        await pools.aclose()
        await asyncio.wait(pumps, timeout=2)
        for writer in writers:
            writer.close()


async def test_more_commands_than_may_wait_are_refused(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "WAITING_MAX", 5)
    answers = await asyncio.gather(*(redis.ping() for _ in range(8)), return_exceptions=True)
    assert answers[:5] == [True] * 5
    assert all(isinstance(answer, RedisError) for answer in answers[5:])


async def test_closing_gives_up_what_waits(own: Redis, own_redis: RedisServer) -> None:
    await own.ping()
    own_redis.pause()
    try:
        waiting = [asyncio.create_task(own.ping()) for _ in range(3)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await own.aclose()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        own_redis.resume()
    assert all(isinstance(answer, RedisError) for answer in answers)


async def test_closing_gives_up_a_command_of_the_same_moment(own: Redis) -> None:
    waiting = asyncio.create_task(own.ping())
    await asyncio.sleep(0)
    await own.aclose()
    async with asyncio.timeout(2):
        with pytest.raises(RedisError):
            await waiting
        assert await own.ping()


async def test_a_connection_that_is_refused_is_an_error_of_the_callers_alone(
    redis_url: str,
) -> None:
    """And none that the event loop reports beside them, each time."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    pools = RedisPools(make_settings(f"{redis_url.rpartition('/')[0]}/9999"))
    for _ in range(2):
        with pytest.raises(ResponseError, match="out of range"):
            await pools.commands.ping()
    await pools.aclose()
    gc.collect()
    assert reported == []


async def test_a_primary_that_became_a_replica_is_connected_to_again(
    own: Redis, own_redis: RedisServer
) -> None:
    """Behind a name that leads to the primary, a new connection reaches the new one."""
    await own.set("key", "x")
    before = await own.client_id()
    await own.replicaof("127.0.0.1", "1")
    with pytest.raises(ReadOnlyError):
        await own.set("key", "y")
    await own.replicaof("NO", "ONE")
    assert await own.set("key", "y")
    assert await own.client_id() != before


async def test_pages_of_outputs_hold_up_no_other_command(pools: RedisPools) -> None:
    await pools.commands.ping()
    await pools.pages.ping()
    await pools.commands.client_pause(60_000, all=False)  # holds up what writes
    try:
        held = asyncio.create_task(pools.pages.set("key", "x"))
        async with asyncio.timeout(2):
            for _ in range(20):
                await pools.commands.ping()
        assert not held.done()
    finally:
        await pools.commands.client_unpause()
    assert await held
