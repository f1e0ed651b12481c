"""Callers that send mu-law in JSON over a WebSocket, as FastRTC's clients do."""

from benchmarks.load.callers import Callers
from benchmarks.load.protocol import Load, Result
from capacity import sound
from capacity.socket_peer import SocketPeer, decode, encode

RATE = 24000
"""Of the handlers, and so of the WebSocket, both ways."""


class SocketCallers(Callers[SocketPeer]):
    """Each sends a message of 20 ms fifty times a second."""

    interval = 0.02

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._messages = encode(sound.speech_with_bursts(RATE), RATE)

    def make_peer(self) -> SocketPeer:
        return SocketPeer(self.load.url)

    def send(self, caller: int, count: int) -> None:
        at = (count + caller * 7) % len(self._messages)
        if at in sound.BURSTS:
            self.mark(caller, at)
        self.peers[caller].send(self._messages[at])

    def result(self) -> Result:
        decoded = [[decode(text) for _, text in peer.received] for peer in self.peers]
        # messages may be of another length than ours
        size = RATE // sound.PACKETS
        result = self.counted([sum(map(len, parts)) // size for parts in decoded])
        for caller, (peer, parts) in enumerate(zip(self.peers, decoded, strict=True)):
            found = sound.find_bursts(parts, RATE)
            self.pair(result, caller, [(peer.received[at][0], number) for at, number in found])
        return result
