"""Callers that send pre-encoded speech over WebRTC and record what comes back."""

from benchmarks.load import opus
from benchmarks.load.callers import Callers
from benchmarks.load.peer import Peer
from benchmarks.load.protocol import Load, Result
from benchmarks.load.rtp import extended, parse_header, payload_of

PERIOD = 1.0
"""Seconds between two markers of a caller: a longer round trip would be taken for a shorter one."""


class AudioCallers(Callers):
    """Each is at another place of the loop, so that their markers come one after the other."""

    interval = 0.02

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._audio = {"speech": opus.speech, "silence": opus.silence, "talk": opus.talk}[
            load.content
        ]()
        self._marked: list[list[float]] = [[] for _ in self.peers]

    def make_peer(self) -> Peer:
        return Peer(self.load.url, "audio")

    def send(self, caller: int, count: int) -> None:
        packets = self._audio.packets
        at = (count + caller * 7) % len(packets)
        now = self.clock()
        self.peers[caller].send(packets[at], count * opus.FRAME, marker=not count)
        if self.recording:
            self.sent[caller] += 1
            if at in self._audio.bursts:
                self._marked[caller].append(now)

    def result(self) -> Result:
        result = self.counted(lambda peer: len(peer.received))
        for peer, marked in zip(self.peers, self._marked, strict=True):
            packets = peer.decrypt()
            numbers = extended([parse_header(data).sequence_number for _, data in packets])
            if numbers:
                result.lost += max(numbers) - min(numbers) + 1 - len(set(numbers))
            payloads = [payload_of(data) for _, data in packets]
            result.bitrate += sum(map(len, payloads)) * 8 / self.load.seconds / len(self.peers)
            if not marked:
                continue
            arrivals = [packets[at][0] for at in opus.burst_packets(opus.decode(payloads))]
            result.markers += len(marked)
            result.round_trips += round_trips(marked, arrivals)
        return result


def round_trips(marked: list[float], arrivals: list[float]) -> list[float]:
    """Seconds from each marker to the first arrival within the period after it."""
    trips = []
    for sent in marked:
        after = [arrival - sent for arrival in arrivals if 0 <= arrival - sent < PERIOD]
        if after:
            trips.append(min(after))
    return trips
