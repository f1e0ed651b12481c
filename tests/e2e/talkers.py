"""An application whose streams answer when the caller pauses; for tests and benchmarks."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from fastapi import FastAPI

from rayrtc import AdditionalOutputs, AudioEmitType, ReplyOnPause, Stream, get_current_context

RATE = 24000
FREQUENCY = 600
"""Hz of every reply."""

_finished: Counter[str] = Counter()
"""Replies of each connection whose `finally` has run."""


def piece(seconds: float) -> tuple[int, Any]:
    """A tone that fits to the next one, if it has a multiple of 10 ms."""
    at = np.arange(round(seconds * RATE)) / RATE
    return RATE, (np.sin(2 * np.pi * FREQUENCY * at) * 12000).astype(np.int16).reshape(1, -1)


def answer(audio: tuple[int, Any]) -> Iterator[AudioEmitType]:
    """2.5 s of a tone; reports what was said in seconds, and how many replies have finished."""
    rate, samples = audio
    call = get_current_context().webrtc_id
    try:
        yield AdditionalOutputs(samples.size / rate, _finished[call])
        for _ in range(25):
            yield piece(0.1)
    finally:
        _finished[call] += 1


async def endless(audio: tuple[int, Any]) -> AsyncIterator[AudioEmitType]:
    """The same for ever, on the loop."""
    rate, samples = audio
    call = get_current_context().webrtc_id
    try:
        yield AdditionalOutputs(samples.size / rate, _finished[call])
        while True:
            yield piece(0.1)
    finally:
        _finished[call] += 1


app = FastAPI()
for _name, _reply in {"answer": answer, "endless": endless}.items():
    stream = Stream(ReplyOnPause(_reply), modality="audio", name=_name, concurrency_limit=10)
    stream.mount(app, f"/{_name}")
