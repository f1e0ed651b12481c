"""A listener that looks at RTP packets alone: what arrives, when, and what is missing."""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.clients import AiortcClient


@dataclass
class Span:
    """What arrived between two moments."""

    rate: float
    """Packets a second."""
    gap: float
    """Longest time without a packet, seconds."""
    lost: int
    """Packets that the sequence numbers show to be missing."""


class Listener(AiortcClient):
    """Receives audio and decodes none of it."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, direction="recvonly", **options)
        self.packets: list[tuple[float, int]] = []
        """Arrival and sequence number, which goes on counting where RTP's starts anew."""

    async def create_offer(self) -> dict[str, str]:
        body = await super().create_offer()
        for transceiver in self.pc.getTransceivers():
            transceiver.receiver._handle_rtp_packet = self._count
        return body

    async def _count(self, packet: Any, arrival_time_ms: int) -> None:
        sequence = packet.sequence_number
        if self.packets:
            last = self.packets[-1][1]
            sequence = last + ((sequence - last + 0x8000) & 0xFFFF) - 0x8000
        self.packets.append((time.monotonic(), sequence))

    def span(self, begin: float, end: float) -> Span:
        """What arrived between two times of the monotonic clock."""
        within = [packet for packet in self.packets if begin <= packet[0] <= end]
        times = [begin, *(arrival for arrival, _ in within), end]
        gap = max(after - before for before, after in pairwise(times))
        numbers = {number for _, number in within}
        lost = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
        return Span(len(within) / (end - begin), gap, lost)
