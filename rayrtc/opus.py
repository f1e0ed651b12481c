"""How a stream's sound is coded on its way to the client."""

from dataclasses import dataclass
from typing import Literal

BITRATES = (6_000, 510_000)
"""Least and most bits a second (RFC 6716, 2.1.1)."""


@dataclass(frozen=True)
class OpusOptions:
    """What `Stream(opus=...)` takes. The defaults are for speech and all-round.

    Whether sound is mono or stereo, and its bandwidth, follow from what the handler emits.

    Attributes:
        bitrate: bits a second, 6,000 to 510,000; None is 40,000 for mono and 96,000 for stereo. A
            client may ask for less.
        complexity: 0 to 10, quality against CPU.
        application: "audio" is all-round and takes less CPU; "voip" is for speech at less than
            24,000 bits a second.
        fec: repeat parts of each packet in the next one, for clients that lose some; needs "voip".
        dtx: send next to nothing while there is silence; needs "voip".

    Raises:
        ValueError: a value is out of range.
    """

    bitrate: int | None = None
    complexity: int = 5
    application: Literal["audio", "voip"] = "audio"
    fec: bool = False
    dtx: bool = False

    def __post_init__(self) -> None:
        least, most = BITRATES
        if self.bitrate is not None and not least <= self.bitrate <= most:
            raise ValueError(f"bitrate must be from {least} to {most}, got {self.bitrate}")
        if not 0 <= self.complexity <= 10:
            raise ValueError(f"complexity must be from 0 to 10, got {self.complexity}")
        if self.application not in ("audio", "voip"):
            raise ValueError(f'application must be "audio" or "voip", got {self.application!r}')
        if (self.fec or self.dtx) and self.application != "voip":
            raise ValueError('fec and dtx need application="voip"')

    def bits(self, channels: int) -> int:
        """Bits a second for a number of channels."""
        return self.bitrate or (40_000 if channels == 1 else 96_000)
