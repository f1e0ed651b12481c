"""What the callers of all media have in common: connect, send in time, record, count."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import aiohttp

from benchmarks.harness.statistics import percentile
from benchmarks.load.pace import Pace
from benchmarks.load.peer import Peer, close_all, connect_all
from benchmarks.load.protocol import Load, Result

CONNECT_TIMEOUT = 120.0
"""Seconds for all of them."""


class Callers(ABC):
    """Several callers of one stream.

    Attributes:
        interval: seconds between two pieces of media of a caller.
        recording: whether what is sent counts.
    """

    interval: float

    def __init__(self, load: Load) -> None:
        self.load = load
        self.clock = time.monotonic
        self.recording = False
        self.sent = [0] * load.connections
        self.peers = [self.make_peer() for _ in range(load.connections)]
        self._late: list[float] = []
        self._cpu = 0.0

    @abstractmethod
    def make_peer(self) -> Peer:
        """A caller that has not called yet."""

    @abstractmethod
    def send(self, caller: int, count: int) -> None:
        """Send a caller's piece of media number `count` now."""

    @abstractmethod
    def result(self) -> Result:
        """What was seen; called when nothing is measured any more."""

    async def run(self, tell: Callable[[str], None]) -> Result:
        """Call, warm up, measure and hang up; `tell` is given the names of the steps."""
        tell("connecting")
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await connect_all(self.peers, session)
                await self._measure(tell)
                # what is on its way belongs to what was sent
                return await asyncio.to_thread(self.result)
            finally:
                await close_all(self.peers)

    async def _measure(self, tell: Callable[[str], None]) -> None:
        pace = Pace(len(self.peers), self.interval, self.send)
        sending = asyncio.create_task(pace.run())
        try:
            tell("warmup")
            await asyncio.sleep(self.load.warmup)
            for peer in self.peers:
                peer.record()
            self.recording = True
            pace.late.clear()
            cpu = time.process_time()
            tell("begin")
            await asyncio.sleep(self.load.seconds)
            self.recording = False
            for peer in self.peers:
                peer.stop_recording()
            tell("end")
            self._cpu = time.process_time() - cpu
            self._late = list(pace.late)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def counted(self, received: Callable[[Peer], int]) -> Result:
        """A result with all that is counted alike."""
        counts = [received(peer) for peer in self.peers]
        return Result(
            sent=sum(self.sent),
            received=sum(counts),
            least=min(got / max(1, sent) for got, sent in zip(counts, self.sent, strict=True)),
            generator_cpu=self._cpu,
            late_p99=percentile(self._late, 99),
        )
