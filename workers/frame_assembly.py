"""Received packets of video as whole frames in their order, and which packets are to be sent again.

A frame is given out with its last packet, which has the marker bit (RFC 7741, 4.1; RFC 6184, 5.1).
"""

from workers.rtp import Packet

RETRY = 0.1
"""Seconds after which a packet that is still missing is asked for again."""
PATIENCE = 0.5
"""Seconds that the frames behind a missing packet are held back if it is sent again."""
REORDERING = 0.1
"""The same if it is not, so that it can only be late."""
MAX_AHEAD = 1024
"""Packets that a new one may be away from the newest and from the frame to come; farther, it begins
a new numbering. So this is also what waits at most."""


class FrameAssembly:
    """The packets of one source.

    Args:
        resends: the sender understands that packets are missing (`nack`, RFC 4585, 6.2.1).
    """

    def __init__(self, resends: bool) -> None:
        self._resends = resends
        self._patience = PATIENCE if resends else REORDERING
        self._packets: dict[int, Packet] = {}  # by their numbers, which do not wrap here
        self._first = -1  # number of the first packet of the frame to come
        self._next = 0  # of the first packet after those that are there
        self._newest = -1
        self._tail = False  # the frame to come may lack its first packets
        self._skipped = False  # what waited was dropped for a new numbering
        self._missing: dict[int, tuple[float, float]] = {}  # seen missing, last asked for

    def add(self, packet: Packet, now: float) -> list[list[Packet]]:
        """Take a packet; the packets of each frame that is complete now.

        Args:
            now: seconds of any clock.
        """
        number = self._unwrapped(packet.sequence_number)
        anew = number - self._first >= MAX_AHEAD or self._newest - number > MAX_AHEAD
        if self._first < 0 or anew:
            self._skipped = self._first >= 0
            self._packets.clear()
            self._missing.clear()
            self._first = self._next = number
            self._newest = number - 1
            self._tail = False
        if number < self._next or number in self._packets:
            return []
        for missing in range(self._newest + 1, number):
            self._missing[missing] = now, float("-inf")
        self._newest = max(self._newest, number)
        self._missing.pop(number, None)
        self._packets[number] = packet
        return self._complete() if number == self._next else []

    def asked_for(self, now: float) -> list[int]:
        """The sequence numbers of packets that the sender is to be asked for now."""
        if not self._resends:
            return []
        due = [n for n, (_, asked) in self._missing.items() if now - asked >= RETRY]
        for number in due:
            self._missing[number] = self._missing[number][0], now
        return [number & 0xFFFF for number in due]

    def give_up(self, now: float) -> tuple[bool, list[list[Packet]]]:
        """Whether packets are lost for good, and the frames that were waiting for them.

        What is left of the frames that they belonged to is dropped, and with it a frame that begins
        right behind them: it cannot be told from the end of another.
        """
        skipped, self._skipped = self._skipped, False
        oldest = next(iter(self._missing.values()), None)
        if oldest is None or now - oldest[0] < self._patience:
            return skipped, []
        late = [n for n, (seen, _) in self._missing.items() if now - seen >= self._patience]
        for number in late:
            del self._missing[number]
        self._first = self._next = late[-1] + 1
        for number in [n for n in self._packets if n < self._first]:
            del self._packets[number]
        self._tail = True
        return True, self._complete()

    def _complete(self) -> list[list[Packet]]:
        frames: list[list[Packet]] = []
        while (packet := self._packets.get(self._next)) is not None:
            if (
                self._first < self._next
                and packet.timestamp != self._packets[self._first].timestamp
            ):
                self._take(frames)  # a sender that sets no marker
            self._next += 1
            if packet.marker:
                self._take(frames)
        return frames

    def _take(self, frames: list[list[Packet]]) -> None:
        frame = [self._packets.pop(number) for number in range(self._first, self._next)]
        self._first = self._next
        if not self._tail:
            frames.append(frame)
        self._tail = False

    def _unwrapped(self, number: int) -> int:
        """The number nearest to the newest that has these as its lower 16 bits."""
        if self._first < 0:
            return number + 2**16
        return self._newest + (number - self._newest + 2**15) % 2**16 - 2**15
