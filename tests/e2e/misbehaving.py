"""An application whose handlers do what a handler must not, and one that only plays a tone."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import FastAPI

from rayrtc import AsyncStreamHandler, AudioEmitType, Stream, StreamHandler

Frame = Any


class Mild(StreamHandler):
    """Says nothing."""

    def copy(self) -> "Mild":
        return type(self)()

    def receive(self, frame: Frame) -> None:
        pass

    def emit(self) -> AudioEmitType:
        return None


class AsyncMild(AsyncStreamHandler):
    """Says nothing."""

    def copy(self) -> "AsyncMild":
        return type(self)()

    async def receive(self, frame: Frame) -> None:
        pass

    async def emit(self) -> AudioEmitType:
        return None


class Sleeping(Mild):
    def receive(self, frame: Frame) -> None:
        time.sleep(2)


class Raising(Mild):
    def receive(self, frame: Frame) -> None:
        raise RuntimeError("always")

    def emit(self) -> AudioEmitType:
        raise RuntimeError("always")


class NeverReturning(Mild):
    def emit(self) -> AudioEmitType:
        while True:
            time.sleep(0.1)


class Spinning(Mild):
    def emit(self) -> AudioEmitType:
        while True:
            pass


class Hoarding(Mild):
    def emit(self) -> AudioEmitType:
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))


class AsyncSleeping(AsyncMild):
    async def receive(self, frame: Frame) -> None:
        time.sleep(2)  # noqa: ASYNC251 - the fault


class AsyncRaising(AsyncMild):
    async def receive(self, frame: Frame) -> None:
        raise RuntimeError("always")

    async def emit(self) -> AudioEmitType:
        raise RuntimeError("always")


class AsyncNeverReturning(AsyncMild):
    async def emit(self) -> AudioEmitType:
        await asyncio.Event().wait()
        return None


class AsyncSpinning(AsyncMild):
    async def emit(self) -> AudioEmitType:
        while True:
            pass


class AsyncHoarding(AsyncMild):
    async def emit(self) -> AudioEmitType:
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))


async def tone() -> AsyncIterator[AudioEmitType]:
    """What a neighbour listens to: 50 packets a second."""
    samples = (np.sin(np.arange(480) * 2 * np.pi * 500 / 24000) * 12000).astype(np.int16)
    while True:
        yield 24000, samples.reshape(1, -1)


MISBEHAVING: dict[str, StreamHandler | AsyncStreamHandler] = {
    "sleeps": Sleeping(),
    "raises": Raising(),
    "never-returns": NeverReturning(),
    "spins": Spinning(),
    "hoards": Hoarding(),
    "sleeps-async": AsyncSleeping(),
    "raises-async": AsyncRaising(),
    "never-returns-async": AsyncNeverReturning(),
    "spins-async": AsyncSpinning(),
    "hoards-async": AsyncHoarding(),
}


def mount(app: FastAPI) -> None:
    """A stream for each of them, by its name, and `/tone`."""
    for name, handler in MISBEHAVING.items():
        Stream(handler, modality="audio", concurrency_limit=10).mount(app, f"/{name}")
    Stream(tone, modality="audio", mode="receive", concurrency_limit=100).mount(app, "/tone")


app = FastAPI()
mount(app)
