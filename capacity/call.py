"""One call of the load: it talks from its first moment on, and is looked at while measured."""

import time
from abc import ABC, abstractmethod
from functools import lru_cache

import aiohttp
import numpy as np

from capacity import opus, socket_peer, sound
from capacity.arrivals import gaps, late, percentile, round_trips
from capacity.peer import Peer
from capacity.protocol import CallSample, Target
from capacity.rtp import missing, parse_header, payload_of

APART = 7
"""Packets between the places in the sound at which two calls begin."""
PACKET = 1 / sound.PACKETS
"""Seconds."""


class Call(ABC):
    """A caller that has not called yet.

    Args:
        number: of the call in its process.

    Attributes:
        peer: its connection.
    """

    peer: Peer | socket_peer.SocketPeer

    def __init__(self, target: Target, number: int) -> None:
        self.target = target
        self._number = number
        self._count = 0
        self._recording = False
        self._sent = 0
        self._marked: list[tuple[float, int]] = []

    @abstractmethod
    async def connect(self, session: aiohttp.ClientSession, timeout: float) -> None:
        """Have it taken; raises as the peers do."""

    @abstractmethod
    def _send(self, at: int) -> None:
        """Send the sound's packet `at`."""

    def send(self) -> None:
        """Send the next 20 ms."""
        at = (self._count + self._number * APART) % (sound.SECONDS * sound.PACKETS)
        if self._recording:
            self._sent += 1
            if at in sound.BURSTS:
                self._marked.append((time.monotonic(), sound.number_of(at)))
        self._send(at)
        self._count += 1

    def begin(self) -> None:
        """Measure from now on."""
        self._sent = 0
        self._marked.clear()
        self.peer.record()
        self._recording = True
        self._began = time.monotonic()

    def end(self) -> None:
        """Measure no more."""
        self._recording = False
        self.peer.stop_recording()

    @abstractmethod
    def sample(self, trips: bool) -> tuple[CallSample, list[float]]:
        """What was measured, and with `trips` the round trips; once."""

    @property
    def silent(self) -> bool:
        """Whether nothing at all came while it was measured, so that nobody is there any more."""
        return False

    async def close(self) -> None:
        """Hang up."""
        await self.peer.close()


class WebRTCCall(Call):
    """Opus over WebRTC."""

    peer: Peer

    def __init__(self, target: Target, number: int) -> None:
        super().__init__(target, number)
        self.peer = Peer(target.url, addresses=target.addresses, headers=target.headers)
        self._packets = opus.encoded(sound.turn_with_bursts)
        self._lost = 0

    async def connect(self, session: aiohttp.ClientSession, timeout: float) -> None:
        await self.peer.connect(session, timeout, open_channel=False)

    def _send(self, at: int) -> None:
        self.peer.send(self._packets[at], self._count * opus.FRAME, marker=not self._count)

    def begin(self) -> None:
        super().begin()
        self._lost = self.peer.lost or 0

    @property
    def silent(self) -> bool:
        return self.peer.heard_time < self._began  # a worker that lives reports once a second

    def sample(self, trips: bool) -> tuple[CallSample, list[float]]:
        sent = max(1, self._sent)
        sample = CallSample()
        if self.peer.lost is not None:
            sample.lost_up = min(1.0, max(0, self.peer.lost - self._lost) / sent)
        received = self.peer.received
        headers = [parse_header(data) for _, data in received]
        if received:
            lost = missing([header.sequence_number for header in headers])
            sample.lost_back = lost / (lost + len(received))
            arrivals = [at for at, _ in received]
            ticks = np.unwrap([float(header.timestamp) for header in headers], period=2**32)
            media = (ticks / opus.RATE).tolist()
            sample.late = late(arrivals, media)
            sample.gap = percentile(gaps(arrivals, media, PACKET), 99) if len(headers) > 1 else None
        if self.target.echo:
            sample.lost_back = max(sample.lost_back or 0.0, 1 - len(received) / sent)
        found: list[float] = []
        if trips:
            found = self._round_trips()
        else:
            received.clear()
        return sample, found

    def _round_trips(self) -> list[float]:
        packets = self.peer.decrypt()
        bursts = sound.find_bursts(
            opus.decode([payload_of(data) for _, data in packets]), opus.RATE
        )
        return round_trips(self._marked, [(packets[at][0], number) for at, number in bursts])


@lru_cache
def _messages(rate: int) -> list[str]:
    return socket_peer.encode(sound.turn_with_bursts(rate), rate)


class SocketCall(Call):
    """Mu-law over WebSocket, which loses nothing: what is not taken in time is missing."""

    peer: socket_peer.SocketPeer

    def __init__(self, target: Target, number: int) -> None:
        super().__init__(target, number)
        self.peer = socket_peer.SocketPeer(target.url, headers=target.headers)
        self._packets = _messages(target.sample_rate)
        self._unsent = 0

    async def connect(self, session: aiohttp.ClientSession, timeout: float) -> None:
        await self.peer.connect(session, timeout)

    def _send(self, at: int) -> None:
        self.peer.send(self._packets[at])

    def begin(self) -> None:
        super().begin()
        self._unsent = self.peer.unsent

    def sample(self, trips: bool) -> tuple[CallSample, list[float]]:
        sent = max(1, self._sent)
        sample = CallSample(lost_up=min(1.0, (self.peer.unsent - self._unsent) / sent))
        received, self.peer.received = self.peer.received, []
        if not self.target.echo:  # what a handler says of its own accord has no times
            return sample, []
        arrivals = [at for at, _ in received]
        media = [count * PACKET for count in range(len(received))]
        sample.lost_back = max(0.0, 1 - len(received) / sent)
        sample.late = late(arrivals, media)
        sample.gap = percentile(gaps(arrivals, media, PACKET), 99) if len(received) > 1 else None
        if not trips:
            return sample, []
        decoded = [socket_peer.decode(text) for _, text in received]
        rate = len(decoded[0]) * sound.PACKETS if decoded else 0
        bursts = sound.find_bursts(decoded, rate)
        return sample, round_trips(self._marked, [(arrivals[at], number) for at, number in bursts])


def make_call(target: Target, number: int) -> Call:
    """A call by the target's transport."""
    return (WebRTCCall if target.transport == "webrtc" else SocketCall)(target, number)
