"""What drains gets no new call from the first moment on; else somebody's call is cut soon after."""

import pytest

from rayrtc.cluster.models import Drain, EndReason
from rayrtc.cluster.registry import Registry
from rayrtc.errors import NoWorkerAvailable
from tests.cluster.conftest import live, make_lease


@pytest.mark.parametrize("target", ["w-drained", "n-drained"])
async def test_nothing_is_reserved_on_what_drains(settled: Registry, target: str) -> None:
    await settled.renew(make_lease("w-drained", node="n-drained"), [])
    kept = await settled.reserve("echo", 9, "c1")
    assert kept.worker_id == "w-drained"
    await settled.drain([target], Drain(seconds=60))
    with pytest.raises(NoWorkerAvailable):
        await settled.reserve("echo", 9, "c2")
    await settled.renew(make_lease("w-other"), [])
    assert {(await settled.reserve("echo", 9, f"d{n}")).worker_id for n in range(5)} == {"w-other"}


async def test_a_worker_learns_of_it_when_it_renews(settled: Registry) -> None:
    lease = make_lease("w-learns", node="n-learns")
    await settled.renew(lease, [])
    one = await settled.reserve("echo", 9, "c1")
    renewal = await settled.renew(lease, live(one))
    assert renewal.drain is None
    await settled.drain(["n-learns"], Drain(seconds=60, reconnect=True))
    renewal = await settled.renew(lease, live(one))
    assert renewal.conflicts == {}, "its calls go on"
    assert renewal.drain is not None
    assert renewal.drain.reconnect
    assert 50 < renewal.drain.seconds <= 60


async def test_of_two_requests_the_sooner_deadline_counts(settled: Registry) -> None:
    lease = make_lease("w-twice", node="n-twice")
    await settled.drain(["n-twice"], Drain(seconds=60, reconnect=True))
    await settled.drain(["w-twice"], Drain(seconds=20))
    drain = (await settled.renew(lease, [])).drain
    assert drain is not None
    assert drain.reconnect
    assert drain.seconds <= 20


async def test_which_nodes_drain(settled: Registry) -> None:
    await settled.drain(["n-gone", "n-going"], Drain(seconds=0))
    assert await settled.draining(["n-going", "n-stays"]) == {"n-going"}
    assert await settled.draining([]) == set()
    drain = (await settled.renew(make_lease("w-going", node="n-going"), [])).drain
    assert drain == Drain(seconds=0)


async def test_a_worker_that_was_given_up_gets_no_calls_when_it_comes_back(
    settled: Registry,
) -> None:
    """Its node was out of reach, and ends it as soon as it learns that it was given up."""
    await settled.renew(make_lease("w-away"), [])
    await settled.withdraw("w-away", EndReason.WORKER_LOST)
    renewal = await settled.renew(make_lease("w-away"), [])
    assert renewal.drain == Drain(seconds=0, reconnect=True)
    with pytest.raises(NoWorkerAvailable):
        await settled.reserve("echo", 9, "c1")


async def test_a_node_that_is_started_again_gets_calls(settled: Registry) -> None:
    """Ray's node may outlive the service that left, and then has the same id."""
    await settled.drain(["n-again"], Drain(seconds=60))
    await settled.undrain("n-again")
    assert (await settled.renew(make_lease("w-again", node="n-again"), [])).drain is None
    assert (await settled.reserve("echo", 9, "c1")).worker_id == "w-again"
