"""What media a worker receives and sends: counted with each report, not with each packet."""

from typing import Literal

from prometheus_client import Counter, Histogram

Direction = Literal["received", "sent"]

LABELS = ("kind", "direction")
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

packets_total = Counter("rayrtc_worker_media_packets_total", "RTP packets.", LABELS)
bytes_total = Counter("rayrtc_worker_media_bytes_total", "Bytes in RTP payloads.", LABELS)
lost_total = Counter(
    "rayrtc_worker_media_packets_lost_total",
    "RTP packets that did not come: to this side, and to clients by their reports.",
    LABELS,
)
jitter_seconds = Histogram(
    "rayrtc_worker_media_jitter_seconds",
    "Interarrival jitter (RFC 3550, 6.4.1), observed with each report.",
    LABELS,
    buckets=_SECONDS,
)
round_trip_seconds = Histogram(
    "rayrtc_worker_media_round_trip_seconds",
    "Round-trip time to clients (RFC 3550, 6.4.1), observed with each of their reports.",
    ["kind"],
    buckets=_SECONDS,
)


class Tally:
    """Brings the counters up to what one sender or receiver has counted."""

    def __init__(self, kind: str, direction: Direction) -> None:
        self._counters = [
            counter.labels(kind, direction) for counter in (packets_total, bytes_total, lost_total)
        ]
        self._jitter = jitter_seconds.labels(kind, direction)
        self._told = [0, 0, 0]

    def tell(self, packets: int, octets: int, lost: int) -> None:
        """Take its totals. One that has fallen, as what was lost may come late, counts when it is
        higher than before."""
        for at, total in enumerate((packets, octets, lost)):
            if total > self._told[at]:
                self._counters[at].inc(total - self._told[at])
                self._told[at] = total

    def jitter(self, seconds: float) -> None:
        """Take the jitter of the last report."""
        self._jitter.observe(seconds)
