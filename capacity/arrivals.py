"""What the times tell at which packets came: how late they were, and how long markers took."""

from collections.abc import Sequence

import numpy as np

from capacity.sound import SECONDS

LATE = 0.06
"""Seconds after which a packet comes too late to be played: three packets of buffer."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Of all values, 0 to 100, with linear interpolation; NaN when there is none."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def late(arrivals: Sequence[float], media: Sequence[float]) -> float:
    """The share of packets that came more than `LATE` after the fastest one would have had them.

    Args:
        arrivals: when each came, seconds.
        media: the time of what is in it, seconds from any moment.
    """
    if not len(arrivals):
        return 0.0
    transit = np.asarray(arrivals) - np.asarray(media)
    return float((transit - transit.min() > LATE).mean())


def gaps(arrivals: Sequence[float], media: Sequence[float], packet: float) -> list[float]:
    """Seconds from each packet to the next one, without those in which nothing was to come.

    Args:
        arrivals, media: as for `late`, in the order of arrival.
        packet: seconds of media in one.
    """
    silent = np.maximum(np.diff(media) - packet, 0)
    between: list[float] = (np.diff(arrivals) - silent).tolist()
    return between


def round_trips(
    marked: Sequence[tuple[float, int]], arrivals: Sequence[tuple[float, int]]
) -> list[float]:
    """Seconds from each marker to the first arrival of its number before that is sent again.

    Both are times with numbers, as of `sound.find_bursts`.
    """
    trips = []
    for sent, number in marked:
        after = [
            at - sent for at, other in arrivals if other == number and 0 <= at - sent < SECONDS
        ]
        if after:
            trips.append(min(after))
    return trips
