"""The pool heals by itself: what dies is replaced, what lives is left alone."""

import asyncio
import signal
import socket
import time

import aiohttp
import psutil

from rayrtc.cluster.models import ConnectionState, Drain, EndReason, OfferRequest, WorkerState
from rayrtc.errors import NoWorkerAvailable
from tests.clients import AiortcClient
from tests.redis_server import RedisServer
from tests.workers.conftest import MakePool
from tests.workers.ray_pool import RayPool, kill
from workers.pool import PoolStatus


def is_full(status: PoolStatus) -> bool:
    return status.full


async def reserve(pool: RayPool, connection_id: str, stream: str = "silent") -> str:
    """Reserve a slot; returns the worker's id."""
    async with asyncio.timeout(10):
        while True:
            try:
                return (await pool.registry.reserve(stream, 9, connection_id)).worker_id
            except NoWorkerAvailable:
                await asyncio.sleep(0.1)


def kill_supervisor() -> None:
    """Ray starts it again."""
    supervisor = next(
        process
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("ray::Supervisor")
        or "Supervisor" in " ".join(process.cmdline())
    )
    supervisor.kill()
    psutil.wait_procs([supervisor], timeout=10)


async def test_workers_serve_and_say_so(make_pool: MakePool) -> None:
    pool = await make_pool(workers_min=2)
    status = await pool.until(is_full)
    assert (status.ready, status.slots, status.error) == (2, 16, "")
    workers = await pool.workers(2)
    assert len({worker.address for worker in workers}) == 2
    for worker in workers:
        assert worker.streams == ("silent",)
        assert worker.host == "127.0.0.1"
        assert psutil.Process(worker.pid).nice() == psutil.Process().nice(), "Ray makes it lower"
        async with aiohttp.ClientSession() as session:
            url = worker.address + "/v1/metrics"
            async with session.get(url) as response:
                assert response.status == 401
            secret = {"Authorization": f"Bearer {pool.settings.secret()}"}
            async with session.get(url, headers=secret) as response:
                assert b"rayrtc_worker_slots 8.0" in await response.read()


async def test_a_dead_worker_is_replaced_at_once(make_pool: MakePool) -> None:
    pool = await make_pool(workers_min=2, lease_ttl=30)
    await pool.until(is_full)
    before = await pool.workers(2)
    lost = await reserve(pool, "c1")
    victim = next(worker for worker in before if worker.worker_id == lost)
    kill(victim.pid)
    async with asyncio.timeout(5):  # long before the lease ends by itself
        while (record := await pool.registry.find("c1")) is None or (
            record.state is not ConnectionState.CLOSED
        ):
            await asyncio.sleep(0.05)
    assert record.reason is EndReason.WORKER_LOST
    end = await pool.pools.commands.xrevrange(f"{pool.settings.cluster}:{{c1}}:outputs", count=1)
    assert end[0][1]["kind"] == "end"
    status = await pool.until(lambda s: s.full and s.replaced == 1)
    after = await pool.workers(2)
    survivor = next(worker for worker in before if worker.worker_id != lost)
    assert survivor.pid in {worker.pid for worker in after}
    assert victim.pid not in {worker.pid for worker in after}
    assert lost not in {worker.worker_id for worker in status.workers}


async def test_a_worker_that_stands_still_is_replaced(make_pool: MakePool) -> None:
    pool = await make_pool(hang_timeout=1)
    await pool.until(is_full)
    (stuck,) = await pool.workers()
    process = psutil.Process(stuck.pid)
    kill(stuck.pid, signal.SIGSTOP)
    await pool.until(lambda s: s.replaced == 1 and s.full)
    (worker,) = await pool.workers()
    assert worker.pid != stuck.pid
    assert not psutil.wait_procs([process], timeout=10)[1]


async def test_a_new_supervisor_adopts_the_workers(make_pool: MakePool) -> None:
    pool = await make_pool(workers_min=2)
    await pool.until(is_full)
    before = {worker.pid for worker in await pool.workers(2)}
    kill_supervisor()
    await pool.until(lambda s: len(s.workers) == 2 and s.full)
    await asyncio.sleep(2)
    status = await pool.status()
    assert {worker.pid for worker in await pool.workers(2)} == before
    assert (len(status.workers), status.replaced) == (2, 0)


async def call(pool: RayPool, connection_id: str) -> tuple[AiortcClient, str]:
    """A call put through as the control plane does it; returns it with its worker's id."""
    client = AiortcClient("", webrtc_id=connection_id)
    offer = await client.create_offer()
    async with asyncio.timeout(10):
        while True:
            try:
                reservation = await pool.registry.reserve("silent", 9, connection_id)
                break
            except NoWorkerAvailable:
                await asyncio.sleep(0.1)
    request = OfferRequest(
        connection_id=connection_id,
        session=reservation.session,
        stream="silent",
        sdp=offer["sdp"],
    )
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            reservation.address + "/v1/offer",
            data=request.model_dump_json(),
            headers={"Authorization": f"Bearer {pool.settings.secret()}"},
        ) as response,
    ):
        assert response.status == 200, await response.text()
        await client.accept(await response.json())
    return client, reservation.worker_id


async def test_the_pool_grows_with_calls(make_pool: MakePool) -> None:
    pool = await make_pool(slots=1)
    assert (await pool.until(is_full)).wanted == 1
    client, _ = await call(pool, "c1")
    status = await pool.until(lambda s: s.ready == 2)
    assert status.calls == 1
    await client.close()
    await pool.until(lambda s: s.calls == 0)


async def spares(pool: RayPool, count: int) -> list[str]:
    """The workers of two that are spare, once there are `count`."""
    async with asyncio.timeout(15):
        while True:
            found = [worker.worker_id for worker in await pool.workers(2) if worker.spare]
            if len(found) == count:
                return found
            await asyncio.sleep(0.1)


async def with_a_spare(make_pool: MakePool) -> tuple[RayPool, str]:
    """A pool of two workers with a slot each, one more than it needs after a call; and that one."""
    pool = await make_pool(slots=1)
    await pool.until(is_full)
    first, _ = await call(pool, "c1")
    await pool.until(lambda status: status.ready == 2)
    await first.close()
    (spare,) = await spares(pool, 1)
    return pool, spare


async def test_a_worker_that_is_too_many_is_spared_until_it_is_needed(make_pool: MakePool) -> None:
    pool, spare = await with_a_spare(make_pool)
    second, used = await call(pool, "c2")
    assert used != spare
    assert not await spares(pool, 0)
    third, last = await call(pool, "c3")
    assert last == spare
    await second.close()
    await third.close()


async def test_a_worn_worker_keeps_its_call_while_another_takes_over(make_pool: MakePool) -> None:
    pool = await make_pool(worker_max_sessions=1, workers_max=1)
    await pool.until(is_full)
    client, worn = await call(pool, "c1")
    await pool.until(lambda s: s.draining == 1 and s.full)
    assert client.pc.connectionState == "connected"
    assert await reserve(pool, "c2") != worn
    await client.close()
    status = await pool.until(lambda s: len(s.workers) == 1)
    assert status.workers[0].worker_id != worn
    assert status.replaced == 0


async def test_a_drained_worker_is_replaced_and_ends_when_it_is_empty(make_pool: MakePool) -> None:
    pool = await make_pool()
    await pool.until(is_full)
    client, drained = await call(pool, "c1")
    await pool.registry.drain([drained], Drain(seconds=60))
    await pool.until(lambda s: s.draining == 1 and s.full)
    assert await reserve(pool, "c2") != drained
    assert client.pc.connectionState == "connected"
    await client.close()
    status = await pool.until(lambda s: len(s.workers) == 1)
    assert status.workers[0].worker_id != drained
    assert status.replaced == 0


async def test_calls_of_a_drained_worker_end_at_the_deadline(make_pool: MakePool) -> None:
    pool = await make_pool()
    await pool.until(is_full)
    client, drained = await call(pool, "c1")
    await pool.registry.drain([drained], Drain(seconds=1))
    await client.wait_for_state("closed")
    record = await pool.registry.find("c1")
    assert record is not None
    assert record.reason is EndReason.DRAINED
    await pool.until(lambda s: drained not in {w.worker_id for w in s.workers})


async def test_nothing_is_started_on_a_drained_node(make_pool: MakePool) -> None:
    pool = await make_pool()
    status = await pool.until(is_full)
    await pool.registry.drain([str(status.workers[0].node)], Drain(seconds=60))
    await pool.until(lambda s: not s.workers)
    kill_supervisor()
    begin = time.monotonic()
    while time.monotonic() < begin + 4:
        status = await pool.until(lambda _: True)
        assert (status.workers, status.failures) == ((), 0)
        await asyncio.sleep(0.05)


async def test_a_node_is_drained_without_redis(
    fragile_pool: RayPool, own_redis: RedisServer
) -> None:
    pool = fragile_pool
    node = str((await pool.until(is_full)).workers[0].node)
    own_redis.kill()
    assert await pool.supervisor.drain.remote(node, 60.0) == 1, "it has not said that it is empty"
    async with asyncio.timeout(10):
        while await pool.supervisor.drain.remote(node, 60.0):
            await asyncio.sleep(0.1)
    await pool.until(lambda s: not s.workers)


async def test_a_node_that_left_can_come_back(make_pool: MakePool) -> None:
    """Its id is the same where Ray's node outlives the service."""
    pool = await make_pool()
    node = str((await pool.until(is_full)).workers[0].node)
    await pool.registry.drain([node], Drain(seconds=60))
    await pool.until(lambda s: not s.workers)
    assert await pool.supervisor.leave.remote(node) == 0
    await pool.registry.undrain(node)
    await pool.supervisor.join.remote(node)
    await pool.until(is_full)
    assert await reserve(pool, "c1")


async def test_a_stream_that_needs_more_gets_workers_of_its_own(make_pool: MakePool) -> None:
    needing = "Stream = __import__('functools').partial(Stream, resources={'CPU': 0.5})"
    pool = await make_pool(broken=needing, ray_address="127.0.0.1:1")
    status = await pool.until(lambda s: [w.needs for w in s.workers] == ["0.5 CPU"] and s.full)
    assert status.ready == 1, "the one that told of it serves no stream, and has gone"
    (worker,) = await pool.workers()
    assert worker.streams == ("silent",)
    assert worker.worker_id == status.workers[0].worker_id
    await reserve(pool, "c1")


async def test_code_that_cannot_be_loaded_is_told_and_tried_again(make_pool: MakePool) -> None:
    pool = await make_pool(broken="import a_module_that_is_not_there")
    status = await pool.until(lambda s: s.failures > 0)
    assert "a_module_that_is_not_there" in status.error
    assert f"{pool.module}.py" in status.error
    assert not await pool.registry.workers()
    pool.write_app()
    status = await pool.until(is_full)
    assert (status.error, status.failures) == ("", 0)


async def test_a_worker_without_a_udp_port_is_told_and_does_not_start(make_pool: MakePool) -> None:
    """It would take calls that never connect."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pool = await make_pool(udp_ports=str(port), workers_min=2)
    status = await pool.until(lambda s: s.failures > 0 and s.ready == 1)
    assert status.error.startswith(f"no UDP port of {port}-{port} is free at 127.0.0.1")
    assert len(await pool.registry.workers()) == 1


async def test_reload_brings_new_code_and_survives_broken_code(make_pool: MakePool) -> None:
    pool = await make_pool()
    await pool.until(is_full)
    (former,) = await pool.workers()
    process = psutil.Process(former.pid)
    pool.write_app(broken="1 / 0")
    await pool.supervisor.reload.remote("2")
    await pool.until(lambda s: "ZeroDivisionError" in s.error)
    (still,) = await pool.workers()
    assert (still.pid, still.state) == (former.pid, WorkerState.READY)
    pool.write_app(name="renamed")
    await pool.supervisor.reload.remote("3")
    status = await pool.until(lambda s: s.full and len(s.workers) == 1)
    assert status.code_version == "3"
    (worker,) = await pool.workers()
    assert worker.streams == ("renamed",)
    assert not psutil.wait_procs([process], timeout=10)[1]


async def test_redis_may_go_and_come_back_empty(
    fragile_pool: RayPool, own_redis: RedisServer
) -> None:
    await fragile_pool.until(is_full)
    (before,) = await fragile_pool.workers()
    own_redis.kill()
    await asyncio.sleep(4)
    assert (await fragile_pool.status()).full
    own_redis.start()
    (after,) = await fragile_pool.workers()
    assert after.pid == before.pid
    assert await reserve(fragile_pool, "c1") == before.worker_id


async def test_shutdown_leaves_no_worker(make_pool: MakePool) -> None:
    pool = await make_pool(workers_min=2)
    await pool.until(is_full)
    processes = [psutil.Process(worker.pid) for worker in await pool.workers(2)]
    await pool.supervisor.shutdown.remote()
    assert not psutil.wait_procs(processes, timeout=5)[1]
    assert not await pool.registry.workers()


async def test_a_leaving_node_is_emptied(make_pool: MakePool) -> None:
    pool = await make_pool()
    await pool.until(is_full)
    (worker,) = await pool.workers()
    process = psutil.Process(worker.pid)
    assert await pool.supervisor.leave.remote(worker.node) == 0
    assert not await pool.registry.workers()
    assert not psutil.wait_procs([process], timeout=5)[1]


async def test_a_new_supervisor_knows_which_workers_are_spare(make_pool: MakePool) -> None:
    """Else one that its forerunner has spared would be left without calls for ever."""
    pool, _ = await with_a_spare(make_pool)
    kill_supervisor()
    second, _ = await call(pool, "c2")
    await spares(pool, 0)
    await second.close()
