"""Received audio packets in their order. Replaces aiortc's jitter buffer for audio.

That one holds all audio back by 80 ms, although it is given to a handler and not to a loudspeaker,
and by 300 ms for the rest of the call once a packet was lost.
"""

from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket

OVERTAKING = 2
"""Packets, of 20 ms, that may overtake one before it counts as lost."""
RESTART = 100
"""A packet that is older than the newest by as many begins a new numbering."""


class PacketOrder:
    """Gives out packets in order, at most one for each that is added, and at once if it can.

    After a loss up to `OVERTAKING` packets stay in it.
    """

    def __init__(self) -> None:
        self._following: int | None = None  # number of the packet to give out
        self._waiting: dict[int, RtpPacket] = {}

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Whether a key frame is needed, which audio has not, and what to decode next."""
        number = packet.sequence_number
        if self._following is None or self._ahead(number) <= -RESTART:
            self._following = number
            self._waiting.clear()
        if self._ahead(number) < 0:
            return False, None  # it was given up
        self._waiting[number] = packet
        if len(self._waiting) > OVERTAKING:
            self._following = min(self._waiting, key=self._ahead)
        if (due := self._waiting.pop(self._following, None)) is None:
            return False, None
        self._following = (self._following + 1) % 2**16
        data: bytes = due._data  # type: ignore[attr-defined]
        return False, JitterFrame(data, due.timestamp)

    def _ahead(self, number: int) -> int:
        """How far `number` is ahead of the packet to give out, in 16 bits (RFC 3550)."""
        assert self._following is not None
        return (number - self._following + 2**15) % 2**16 - 2**15


def create_jitter_buffer(
    capacity: int, prefetch: int = 0, is_video: bool = False
) -> PacketOrder | JitterBuffer:
    """What a receiver puts its packets into; called as aiortc's class."""
    return JitterBuffer(capacity, prefetch, is_video) if is_video else PacketOrder()
