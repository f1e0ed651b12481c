"""What the cluster of `tests.network.cluster` runs: steady calls, and one that stops its worker."""

import time
from collections.abc import AsyncIterator

import numpy as np
from fastapi import FastAPI

from rayrtc import AdditionalOutputs, AudioEmitType, Stream

RATE = 24000
OUTPUT_EVERY = 50
"""Frames of 20 ms between two outputs."""


async def tone() -> AsyncIterator[AudioEmitType]:
    """A tone without end, and a number every second."""
    at = np.arange(RATE // 50)
    frame = (np.sin(2 * np.pi * 500 * at / RATE) * 8000).astype(np.int16)
    count = 0
    while True:
        yield RATE, frame
        count += 1
        if count % OUTPUT_EVERY == 0:
            yield AdditionalOutputs(count // OUTPUT_EVERY)


async def block(seconds: float) -> AsyncIterator[AudioEmitType]:
    """Holds the event loop of its worker."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault
    yield RATE, np.zeros(RATE // 50, np.int16)


app = FastAPI()
Stream(tone, modality="audio", mode="receive", concurrency_limit=1000).mount(app)
Stream(block, modality="audio", mode="receive", concurrency_limit=10).mount(app, "/block")
