"""What the callers of all media have in common: connect, send in time, record, count."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import aiohttp

from benchmarks.load.protocol import Load, Result
from capacity.arrivals import percentile, round_trips
from capacity.pace import Pace
from capacity.sound import number_of

CONNECT_TIMEOUT = 120.0
"""Seconds for all of them."""
SAMPLING = 0.3
"""Seconds for which the media goes on after the end, while the server's processes are looked at."""
TOGETHER = 4
"""Callers that connect at the same time."""


class AnyPeer(Protocol):
    """One caller."""

    async def connect(self, session: aiohttp.ClientSession) -> None: ...

    def record(self) -> None: ...

    def stop_recording(self) -> None: ...

    async def close(self) -> None: ...


P = TypeVar("P", bound=AnyPeer)


class Callers(ABC, Generic[P]):
    """Several callers of one stream.

    Attributes:
        interval: seconds between two pieces of media of a caller.
        recording: whether what is sent counts.
        begin, end: when the measurement was (`time.monotonic`).
    """

    interval: float

    def __init__(self, load: Load) -> None:
        self.load = load
        self.recording = False
        self.begin = self.end = 0.0
        self.sent = [0] * load.connections
        self.peers = [self.make_peer() for _ in range(load.connections)]
        self._marked: list[list[tuple[float, int]]] = [[] for _ in self.peers]
        self._counts = [0] * load.connections
        self._late: list[float] = []
        self._owned: list[asyncio.Task[None]] = []
        self._cpu = 0.0

    @abstractmethod
    def make_peer(self) -> P:
        """A caller that has not called yet."""

    @abstractmethod
    def send(self, caller: int, count: int) -> None:
        """Send a caller's piece of media number `count` now."""

    async def before(self) -> None:
        """What is done when all are connected."""

    async def during(self) -> None:
        """What is done beside the media while it is measured."""

    def own(self, work: Coroutine[None, None, None]) -> None:
        """Do something until the callers hang up."""
        self._owned.append(asyncio.create_task(work))

    @abstractmethod
    def result(self) -> Result:
        """What was seen; called when nothing is measured any more."""

    async def run(self, tell: Callable[[str], None]) -> Result:
        """Call, warm up, measure and hang up; `tell` is given the names of the steps."""
        tell("connecting")
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._connect(session)
                    await self.before()
                await self._measure(tell)
                return await asyncio.to_thread(self.result)
            finally:
                for task in self._owned:
                    task.cancel()
                await asyncio.gather(*self._owned, return_exceptions=True)
                await asyncio.gather(*(p.close() for p in self.peers), return_exceptions=True)

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        together = asyncio.Semaphore(TOGETHER)

        async def connect(peer: P) -> None:
            async with together:
                await peer.connect(session)

        async with asyncio.TaskGroup() as tasks:
            for peer in self.peers:
                tasks.create_task(connect(peer))

    async def _measure(self, tell: Callable[[str], None]) -> None:
        pace = Pace(self.interval, len(self.peers))
        for caller in range(len(self.peers)):
            pace.add(partial(self._send, caller))
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
            self.begin = time.monotonic()
            async with asyncio.timeout(self.load.seconds + CONNECT_TIMEOUT):
                await self.during()
            await asyncio.sleep(max(0.0, self.begin + self.load.seconds - time.monotonic()))
            self.recording = False
            self.end = time.monotonic()
            for peer in self.peers:
                peer.stop_recording()
            tell("end")
            self._cpu = time.process_time() - cpu
            self._late = list(pace.late)
            await asyncio.sleep(SAMPLING)
            if sending.done():
                sending.result()  # it never ends by itself: raises what ended it
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _send(self, caller: int) -> None:
        if self.recording:
            self.sent[caller] += 1
        self.send(caller, self._counts[caller])
        self._counts[caller] += 1

    def mark(self, caller: int, packet: int) -> None:
        """A marker is about to be sent, which begins in this packet of the sound."""
        if self.recording:
            self._marked[caller].append((time.monotonic(), number_of(packet)))

    def pair(self, result: Result, caller: int, arrivals: list[tuple[float, int]]) -> None:
        """Put down the round trips of a caller's markers, given when which ones came back."""
        result.markers += len(self._marked[caller])
        result.round_trips += round_trips(self._marked[caller], arrivals)

    def counted(self, counts: Sequence[int]) -> Result:
        """A result with all that is counted alike, given what each caller received."""
        return Result(
            sent=sum(self.sent),
            received=sum(counts),
            least=min(got / max(1, sent) for got, sent in zip(counts, self.sent, strict=True)),
            generator_cpu=self._cpu,
            late_p99=percentile(self._late, 99),
        )
