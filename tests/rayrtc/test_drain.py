"""`rayrtc drain`: an operator names a worker or a node, and nothing else is drained."""

import asyncio
import secrets

import pytest

from rayrtc.cluster.models import Drain, EndReason, WorkerStatus
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.drain import DrainError, Targets, drain
from tests.cluster.conftest import eventually, live, make_lease, make_settings
from tests.rayrtc.test_cli import rayrtc

WORKERS = [
    make_lease("w1", node="aaaa1111", host="10.0.0.1"),
    make_lease("w2", node="aaaa1111", host="10.0.0.1"),
    make_lease("w3", node="aaaa2222", host="10.0.0.2"),
]


def statuses() -> list[WorkerStatus]:
    return [WorkerStatus(**lease.model_dump(), used=1, reserved=0) for lease in WORKERS]


@pytest.mark.parametrize(
    ("target", "ids", "meant"),
    [
        ("w3", ["w3"], ["w3"]),
        ("aaaa1111", ["aaaa1111"], ["w1", "w2"]),
        ("aaaa1", ["aaaa1111"], ["w1", "w2"]),
        ("10.0.0.2", ["aaaa2222"], ["w3"]),
        (None, ["aaaa1111", "aaaa2222"], ["w1", "w2", "w3"]),
    ],
)
def test_what_a_target_means(target: str | None, ids: list[str], meant: list[str]) -> None:
    targets = Targets(statuses(), target)
    assert targets.ids == ids
    assert [w.worker_id for w in targets.among(statuses())] == meant


@pytest.mark.parametrize(
    ("target", "why"),
    [("w9", "no worker or node"), ("aaa", "no worker or node"), ("aaaa", "may be any of")],
)
def test_a_target_that_is_none_or_many_is_refused(target: str, why: str) -> None:
    with pytest.raises(DrainError, match=why):
        Targets(statuses(), target)


async def test_it_waits_for_the_calls(redis_url: str) -> None:
    settings = make_settings(redis_url, cluster=f"drain-{secrets.token_hex(4)}", lease_ttl=60)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    lease = make_lease()
    await registry.renew(lease, [])
    await asyncio.sleep(2 * registry.settle)
    one = await registry.reserve("echo", 9, "c1")
    await registry.renew(lease, live(one))
    said: list[str] = []
    waiting = asyncio.create_task(drain(settings, "w1", Drain(seconds=30), True, said.append))
    await eventually(lambda: "1 calls are left" in said)
    await registry.release("c1", one.session, EndReason.CLIENT_CLOSED)
    await asyncio.wait_for(waiting, 5)
    assert said[0] == "worker w1 takes no new calls; 1 are running"
    assert said[-1] == "no calls are left"
    await pools.aclose()


def test_the_command_wants_one_target(redis_url: str) -> None:
    for arguments in ([], ["w1", "--all"]):
        done = rayrtc("drain", *arguments, RAYRTC_REDIS_URL=redis_url)
        assert done.returncode == 2
        assert "name a worker or a node, or give --all" in done.stderr
    done = rayrtc("drain", "w1", RAYRTC_REDIS_URL=redis_url, RAYRTC_CLUSTER="empty")
    assert done.returncode == 1
    assert "there is no worker or node 'w1'" in done.stderr
