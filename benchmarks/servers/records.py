"""What a server measures about itself, written to the directory `BENCH_RECORDS` as JSON lists."""

import asyncio
import json
import os
import time
import uuid
from pathlib import Path

LAG_INTERVAL = 0.01
"""Seconds between two looks at the event loop."""
WRITE_INTERVAL = 1.0


class Record:
    """Numbers under one name; nothing is kept without `BENCH_RECORDS`."""

    def __init__(self, name: str) -> None:
        directory = os.environ.get("BENCH_RECORDS")
        self._path = Path(directory) / f"{name}-{uuid.uuid4().hex}.json" if directory else None
        self._values: list[float] = []

    def add(self, value: float) -> None:
        if self._path is not None:
            self._values.append(value)

    def write(self) -> None:
        """Put all values on disk."""
        if self._path is not None and self._values:
            self._path.write_text(json.dumps(self._values))


_watching: set[asyncio.Task[None]] = set()


def watch_loop() -> None:
    """Record how late this process' event loop runs, from the first call on."""
    if "BENCH_LAG" in os.environ and not _watching:
        _watching.add(asyncio.create_task(_watch()))


async def _watch() -> None:
    # not the loop's own time, which stands still within a turn and counts milliseconds in uvloop
    lags = Record("lag")
    written = time.monotonic()
    while True:
        due = time.monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        now = time.monotonic()
        lags.add(max(0.0, now - due))
        if now - written > WRITE_INTERVAL:
            written = now
            lags.write()
