"""What operators see of a worker's media."""

import asyncio
from collections.abc import Callable

import pytest
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from prometheus_client import REGISTRY

from tests.workers.host import AsyncEcho, calling, hosting, losing, until
from tests.workers.test_combinations import flip
from workers.media_metrics import Tally


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"rayrtc_worker_media_{name}", labels) or 0.0


def since(name: str, **labels: str) -> Callable[[], float]:
    """How much a sample has grown since now."""
    before = sample(name, **labels)
    return lambda: sample(name, **labels) - before


@pytest.mark.parametrize("kind", ["audio", "video"])
async def test_packets_bytes_jitter_and_round_trips_of_a_call(kind: str) -> None:
    handler = AsyncEcho() if kind == "audio" else flip
    sent = since("packets_total", kind=kind, direction="sent")
    received = since("packets_total", kind=kind, direction="received")
    octets = since("bytes_total", kind=kind, direction="received")
    jitters = since("jitter_seconds_count", kind=kind, direction="received")
    trips = since("round_trip_seconds_count", kind=kind)
    trip_seconds = since("round_trip_seconds_sum", kind=kind)
    async with hosting(handler, modality=kind) as host, calling(host, kinds=[kind]):
        await until(lambda: received() > 20 and sent() > 20 and jitters() and trips())
    assert octets() / received() > 20
    assert trip_seconds() / trips() < 0.5


async def test_packets_that_are_lost_on_their_way() -> None:
    received = since("packets_total", kind="audio", direction="received")
    lost = since("packets_lost_total", kind="audio", direction="received")
    async with hosting(AsyncEcho()) as host, calling(host):
        await until(lambda: received() > 20)
        with losing(host, every=5) as count:
            await until(lambda: count[0] >= 50)
        await asyncio.sleep(0.1)
    assert 8 <= lost() <= 12


async def test_a_client_cannot_spoil_them() -> None:
    lost = since("packets_lost_total", kind="audio", direction="sent")
    trips = since("round_trip_seconds_count", kind="audio")
    sent = since("packets_total", kind="audio", direction="sent")
    async with hosting(AsyncEcho()) as host, calling(host) as (_, connection):
        await until(lambda: sent() > 20)
        sender = connection._transport._peer._connection.getTransceivers()[0].sender  # type: ignore[attr-defined]
        honest = trips()
        for lsr in (1, 2**32 - 1):
            report = RtcpReceiverInfo(sender._ssrc, 255, 2**23 - 1, 0, 2**32 - 1, lsr, 2**32 - 1)
            await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[report]))
        assert trips() - honest <= 1
    assert lost() <= sent()


def test_totals_that_fall_wait_until_they_are_higher() -> None:
    lost = since("packets_lost_total", kind="audio", direction="received")
    tally = Tally("audio", "received")
    for total in (3, 2, 3, 5):
        tally.tell(10, 100, total)
    assert lost() == 5
