"""Readers of event streams whose events are the times at which the handlers made them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.load.audio import AudioCallers
from benchmarks.load.protocol import Load, Result

LINE_TIMEOUT = 30.0
OPENED_TOGETHER = 50
ARRIVED = 1.0
"""Seconds after which an event that has not arrived is missing."""


@dataclass
class Reader:
    """A client of an event stream."""

    caller: int
    delays: dict[float, float] = field(default_factory=dict)
    """How long each event took, by the time at which it was made."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class OutputCallers(AudioCallers):
    """Silent callers of a handler with outputs, and `load.readers` readers for each of them."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._readers: list[Reader] = []

    async def before(self) -> None:
        """Open the event streams; they are read from now on."""
        opening = asyncio.Semaphore(OPENED_TOGETHER)
        for caller in range(len(self.peers)):
            for _ in range(self.load.readers):
                reader = Reader(caller)
                self._readers.append(reader)
                self.own(self._read(reader, opening))
        for reader in self._readers:
            await reader.opened.wait()

    async def _read(self, reader: Reader, opening: asyncio.Semaphore) -> None:
        address = urlsplit(self.load.url)
        webrtc_id = self.peers[reader.caller].webrtc_id
        async with opening:
            stream, writer = await asyncio.open_connection(address.hostname, address.port)
            request = (
                f"GET {address.path}/updates?webrtc_id={webrtc_id} HTTP/1.1\r\n"
                f"Host: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
            )
            writer.write(request.encode())
            status = await asyncio.wait_for(stream.readline(), LINE_TIMEOUT)
            if b" 200 " not in status:
                raise RuntimeError(f"an event stream was refused: {status!r}")
            reader.opened.set()
        try:
            async for line in stream:
                if line.startswith(b"data:"):
                    made = float(line[5:])
                    reader.delays[made] = time.monotonic() - made
        finally:
            writer.close()

    def result(self) -> Result:
        made: list[set[float]] = [set() for _ in self.peers]
        for reader in self._readers:
            made[reader.caller].update(
                at for at in reader.delays if self.begin < at < self.end - ARRIVED
            )
        delays: list[float] = []
        least = 1.0
        for reader in self._readers:
            expected = made[reader.caller]
            got = [reader.delays[at] for at in expected if at in reader.delays]
            least = min(least, len(got) / len(expected) if expected else 0.0)
            delays += got
        return Result(
            sent=sum(len(made[reader.caller]) for reader in self._readers),
            received=len(delays),
            least=least,
            timings={"output": delays},
        )


async def read_outputs(load: Load, tell: Callable[[str], None]) -> Result:
    """Call, read, hang up."""
    return await OutputCallers(load).run(tell)
