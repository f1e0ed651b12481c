"""What a step of the ramp was like for its callers, and whether that is within the bounds."""

from collections.abc import Callable, Sequence
from typing import Self

from pydantic import BaseModel

from capacity.arrivals import percentile
from capacity.protocol import Calls, CallSample, Sample

PACE_MAX = 0.02
"""Seconds that the load's own packets may be late (99th percentile): one packet."""
CPU_MAX = 0.95
"""Share of a core that a process of the load may take."""
EXPECTED = frozenset({"time_limit"})
"""Reasons of an end that the stream's author asked for: such calls are replaced."""


class Bounds(BaseModel):
    """What a call may go through at most."""

    loss: float = 0.01
    """Share of packets that are lost or late, each way, of 99 in 100 calls."""
    round_trip: float = 0.2
    """Seconds, 99th percentile."""
    setup: float = 2.0
    """Seconds from an offer to its first media, 99th percentile."""


class Quality(BaseModel):
    """A step: percentiles over calls, or over round trips. None: nothing was to be seen."""

    calls: int
    """That were live."""
    wanted: int
    answer_p50: float | None = None
    answer_p99: float | None = None
    media_p50: float | None = None
    media_p99: float | None = None
    """Seconds from an offer to its answer, and to its first media, of the calls that were made for
    this step."""
    lost_up: float | None = None
    lost_back: float | None = None
    late: float | None = None
    """Shares of packets, of the call in a hundred that had it worst."""
    lost: float | None = None
    """Lost or late on the way back, of the call in a hundred that had it worst."""
    gap: float | None = None
    """Seconds between two packets, the same way."""
    round_trip_p50: float | None = None
    round_trip_p99: float | None = None
    failed: dict[str, int] = {}
    """Calls that could not be made, by code."""
    ended: dict[str, int] = {}
    """Calls that the deployment ended, by reason."""
    full: str = ""
    """The code by which it said that there is no room for more."""
    generator_late: float = 0.0
    """Seconds that the load's packets were late, 99th percentile, of its slowest process."""
    generator_cpu: float = 0.0
    """Share of a core that its busiest process took."""
    generator_machine: float = 0.0
    """Share of its machine's cores that was in use, by whatever."""

    @classmethod
    def of(cls, wanted: int, made: Calls, sample: Sample) -> Self:
        """From what the processes tell of one step."""

        def worst(value: Callable[[CallSample], float | None]) -> float | None:
            return _percentile([v for call in sample.calls if (v := value(call)) is not None], 99)

        ended = dict(made.ended)
        for reason, count in sample.ended.items():
            ended[reason] = ended.get(reason, 0) + count
        return cls(
            calls=made.live,
            wanted=wanted,
            answer_p50=_percentile(made.answer, 50),
            answer_p99=_percentile(made.answer, 99),
            media_p50=_percentile(made.media, 50),
            media_p99=_percentile(made.media, 99),
            lost_up=worst(lambda call: call.lost_up),
            lost_back=worst(lambda call: call.lost_back),
            late=worst(lambda call: call.late),
            lost=worst(_lost),
            gap=worst(lambda call: call.gap),
            round_trip_p50=_percentile(sample.round_trips, 50),
            round_trip_p99=_percentile(sample.round_trips, 99),
            failed=made.failed,
            ended=ended,
            full=made.full,
            generator_late=sample.late,
            generator_cpu=sample.cpu,
            generator_machine=sample.machine,
        )

    def broken(self, bounds: Bounds) -> list[str]:
        """What is out of bounds, each as a phrase."""
        found = [f"{count} calls failed: {code}" for code, count in self.failed.items()]
        found += [
            f"{count} calls ended: {reason}"
            for reason, count in self.ended.items()
            if reason not in EXPECTED
        ]
        shares = (("lost on the way up", self.lost_up), ("lost or late coming back", self.lost))
        found += [
            f"{name} {share:.1%} > {bounds.loss:.1%}"
            for name, share in shares
            if share is not None and share > bounds.loss
        ]
        times = (
            ("round trip p99", self.round_trip_p99, bounds.round_trip),
            ("offer to media p99", self.media_p99, bounds.setup),
        )
        found += [
            f"{name} {seconds * 1000:.0f} ms > {limit * 1000:.0f} ms"
            for name, seconds, limit in times
            if seconds is not None and seconds > limit
        ]
        return found

    @property
    def generator_slow(self) -> bool:
        """Whether the load was not made as it should have been."""
        return self.generator_late > PACE_MAX or self.generator_cpu > CPU_MAX


def _lost(call: CallSample) -> float | None:
    """Share that was lost or late of what should have come back."""
    if call.lost_back is None:
        return None
    return call.lost_back + (1 - call.lost_back) * (call.late or 0.0)


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return percentile(values, percent) if values else None
