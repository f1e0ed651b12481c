"""Callers that send pre-encoded speech over WebRTC and record what comes back."""

from benchmarks.load.callers import Callers
from benchmarks.load.protocol import Load, Result
from capacity import opus, sound
from capacity.peer import Peer
from capacity.rtp import missing, parse_header, payload_of

SOUNDS = {"speech": sound.speech_with_bursts, "silence": sound.silence, "talk": sound.talk}
APART = 7
"""Packets between the places in the loop at which two callers begin: so their markers come one
after the other."""


class AudioCallers(Callers[Peer]):
    """Each sends a packet of 20 ms fifty times a second."""

    interval = 0.02

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._packets = opus.encoded(SOUNDS[load.content])
        self._bursts = sound.BURSTS if load.content == "speech" else frozenset[int]()

    def make_peer(self) -> Peer:
        return Peer(self.load.url, "audio")

    def send(self, caller: int, count: int) -> None:
        at = (count + caller * APART) % len(self._packets)
        if at in self._bursts:
            self.mark(caller, at)
        self.peers[caller].send(self._packets[at], count * opus.FRAME, marker=not count)

    def result(self) -> Result:
        received = [peer.decrypt() for peer in self.peers]
        result = self.counted([len(packets) for packets in received])
        for caller, packets in enumerate(received):
            result.lost += missing([parse_header(data).sequence_number for _, data in packets])
            payloads = [payload_of(data) for _, data in packets]
            result.bitrate += sum(map(len, payloads)) * 8 / self.load.seconds / len(self.peers)
            if self._bursts:
                found = sound.find_bursts(opus.decode(payloads), opus.RATE)
                self.pair(result, caller, [(packets[at][0], number) for at, number in found])
        return result
