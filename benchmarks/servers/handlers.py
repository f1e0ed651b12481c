"""The workloads as handlers, the same file for FastRTC and for rayrtc but for one import."""

import asyncio
import os
import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

if os.environ["BENCH_SYSTEM"] == "fastrtc":
    from fastrtc import (
        AdditionalOutputs,
        AsyncStreamHandler,
        ReplyOnPause,
        Stream,
        StreamHandler,
    )
else:
    from rayrtc import (
        AdditionalOutputs,
        AsyncStreamHandler,
        ReplyOnPause,
        Stream,
        StreamHandler,
    )

from benchmarks.servers.records import Record, watch_loop

RATE = 24000
LIMIT = 4096
"""Connections of one stream: more than any benchmark makes."""


class AsyncEcho(AsyncStreamHandler):
    """Plays back what it hears, at 24 kHz both ways."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=RATE, output_sample_rate=RATE)

    def copy(self) -> "AsyncEcho":
        return type(self)()

    async def start_up(self) -> None:
        self.audio: asyncio.Queue[Any] = asyncio.Queue()
        watch_loop()

    async def receive(self, frame: Any) -> None:
        if hasattr(self, "audio"):
            self.audio.put_nowait(frame)

    async def emit(self) -> Any:
        while not hasattr(self, "audio"):
            await asyncio.sleep(0.01)
        return await self.audio.get()


class SyncEcho(StreamHandler):
    """The same on threads."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=RATE, output_sample_rate=RATE)
        self.audio: queue.Queue[Any] = queue.Queue()

    def copy(self) -> "SyncEcho":
        return type(self)()

    def receive(self, frame: Any) -> None:
        self.audio.put(frame)

    def emit(self) -> Any:
        try:
            return self.audio.get(timeout=1.0)
        except queue.Empty:  # so that the thread can end with the connection
            return None


class Idle(AsyncStreamHandler):
    """Has nothing to say."""

    def copy(self) -> "Idle":
        return type(self)()

    async def receive(self, frame: Any) -> None:
        pass

    async def emit(self) -> None:
        return None


class Inputs(Idle):
    """Records how long ago the input was posted that a call of `receive` sees first.

    The input is the time it was posted at: `time.monotonic` is one clock for all processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = None
        self.delays = Record("inputs")

    async def receive(self, frame: Any) -> None:
        given = self.latest_args
        if given is not self.seen and len(given) > 1:
            self.seen = given
            self.delays.add(time.monotonic() - float(given[1]))

    async def emit(self) -> None:
        await asyncio.sleep(0.02)

    async def shutdown(self) -> None:
        self.delays.write()


class Outputs(Idle):
    """Emits the time, ten times a second."""

    interval = 0.1

    async def emit(self) -> Any:
        await asyncio.sleep(self.interval)
        return AdditionalOutputs(time.monotonic())


class Seconds(Outputs):
    """Emits it each second."""

    interval = 1.0


def reply(audio: tuple[int, Any]) -> Iterator[Any]:
    """Half a second of a tone."""
    at = np.arange(RATE // 2) / RATE
    tone = (np.sin(2 * np.pi * 600 * at) * 8000).astype(np.int16).reshape(1, -1)
    yield RATE, tone


def flip(image: Any) -> Any:
    """Upside down, so that nothing can be passed on as it came."""
    return np.flip(image, axis=0)


def listening() -> Any:
    """`ReplyOnPause` with one voice detector for both: FastRTC's own is a download."""
    if os.environ["BENCH_SYSTEM"] == "fastrtc":
        from rayrtc.silero import get_silero_model

        return ReplyOnPause(reply, model=get_silero_model())
    return ReplyOnPause(reply)


class CalledFromTheStart(Stream):
    """FastRTC calls a function of video frames only once inputs were set: it returns the frames as
    they came until then. So each connection is given the frame itself as its only input.
    """

    async def handle_offer(self, body: Any, set_outputs: Any) -> Any:
        answer = await super().handle_offer(body, set_outputs)
        if "sdp" in body:
            self.set_input(body["webrtc_id"], "__webrtc_value__")
        return answer


def streams() -> dict[str, Any]:
    """Every stream by its path."""
    options: dict[str, Any] = {"mode": "send-receive", "concurrency_limit": LIMIT}
    if os.environ["BENCH_SYSTEM"] == "fastrtc":
        options["server_rtc_configuration"] = {"iceServers": []}
    handlers = {
        "/echo-async": AsyncEcho(),
        "/echo-sync": SyncEcho(),
        "/pause": listening(),
        "/idle": Idle(),
        "/inputs": Inputs(),
        "/outputs": Outputs(),
        "/seconds": Seconds(),
    }
    made = {
        path: Stream(handler, modality="audio", **options) for path, handler in handlers.items()
    }
    of_video = CalledFromTheStart if os.environ["BENCH_SYSTEM"] == "fastrtc" else Stream
    made["/flip"] = of_video(flip, modality="video", **options)
    return made
