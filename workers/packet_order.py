"""Received audio packets in their order, and which of them are lost.

No packet is held back for longer than its order needs: the audio is given to a handler and not to a
loudspeaker.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

OVERTAKING = 2
"""Packets, of 20 ms, that may overtake one before it counts as lost."""
RESTART = 100
"""A packet that is older than the newest by as many begins a new numbering."""
CONCEALED = 5
"""Lost packets in a row that are named; more than that are a pause."""

Packet = TypeVar("Packet")


class PacketOrder(Generic[Packet]):
    """Gives out packets in order, each as soon as none before it is waited for."""

    def __init__(self) -> None:
        self._following: int | None = None  # number of the packet to give out
        self._waiting: dict[int, Packet] = {}

    def add(self, number: int, packet: Packet) -> Iterator[Packet | None]:
        """What is to be decoded next, None in place of each packet that is lost.

        Args:
            number: its sequence number, 16 bits (RFC 3550, 5.1).
        """
        if number == self._following and not self._waiting:  # as nearly always
            self._following = (number + 1) & 0xFFFF
            yield packet
            return
        if self._following is None or self._ahead(number) <= -RESTART:
            self._following = number
            self._waiting.clear()
        if self._ahead(number) < 0:
            return  # it was given up, or has been here
        self._waiting[number] = packet
        if len(self._waiting) > OVERTAKING:
            first = min(self._waiting, key=self._ahead)
            missing = self._ahead(first)
            for _ in range(missing if missing <= CONCEALED else 0):
                yield None
            self._following = first
        while (due := self._waiting.pop(self._following, None)) is not None:
            self._following = (self._following + 1) & 0xFFFF
            yield due

    def _ahead(self, number: int) -> int:
        """How far `number` is ahead of the packet to give out, in 16 bits."""
        assert self._following is not None
        return (number - self._following + 2**15) % 2**16 - 2**15
