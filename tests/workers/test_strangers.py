"""What strangers send to the port that all calls share is nobody's loss."""

from tests.workers.strangers import HEARD, INTERVAL, attack

CALLS, PACKETS = 12, 10_000


async def test_forged_packets_change_nothing_but_counters() -> None:
    """With 64 calls and 100,000 packets: `python -m tests.workers.strangers 64 100000`."""
    report = await attack(CALLS, PACKETS)
    assert len(report.ports) == 1
    assert sum(report.dropped.values()) >= PACKETS
    assert set(report.dropped) >= {
        "bad_integrity",
        "malformed",
        "unknown_address",
        "unknown_transaction",
        "unknown_user",
    }
    assert report.answered == 0
    assert report.same_pairs
    assert report.same_routes
    assert report.alive == CALLS
    assert report.lost == 0
    assert report.least_heard >= HEARD / INTERVAL / 2
