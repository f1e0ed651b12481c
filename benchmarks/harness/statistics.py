"""Medians, percentiles and spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A figure of several rounds."""

    median: float
    low: float
    """The least of the rounds."""
    high: float
    """The largest."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a round; ValueError when there is none."""
        if not values:
            raise ValueError("no round has a value")
        return cls(float(np.median(values)), min(values), max(values))
