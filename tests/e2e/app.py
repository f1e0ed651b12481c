"""The application that the end-to-end tests run: one stream for each thing they look at."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from examples import video_effect
from examples.echo import EchoHandler, EchoInputs
from rayrtc import (
    AdditionalOutputs,
    AsyncStreamHandler,
    AudioEmitType,
    AudioVideoEmitType,
    Stream,
    StreamHandler,
    VideoStreamHandler,
    get_current_context,
)
from tests.e2e import misbehaving


class Echo(AsyncStreamHandler):
    """Plays back what it hears and reports each input it is given."""

    def __init__(self) -> None:
        super().__init__(output_sample_rate=48000)
        self.queue: asyncio.Queue[AudioEmitType] = asyncio.Queue(100)
        self.seen: list[Any] = []

    def copy(self) -> "Echo":
        return Echo()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        if self.latest_args != self.seen:
            self.seen = list(self.latest_args)
            await self.queue.put(AdditionalOutputs(*self.seen[1:]))
        if not self.queue.full():
            self.queue.put_nowait(frame)

    async def emit(self) -> AudioEmitType:
        return await self.queue.get()


class Numbered(AsyncStreamHandler):
    """After `set_input(count, pause)` reports the numbers 0 to count - 1, `pause` seconds apart."""

    def copy(self) -> "Numbered":
        return Numbered()

    async def start_up(self) -> None:
        self.numbers: asyncio.Queue[int] = asyncio.Queue(10_000)
        await self.args_set.wait()
        count, pause = self.latest_args[1:]
        for number in range(count):
            await self.numbers.put(number)
            await asyncio.sleep(pause)

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        pass

    async def emit(self) -> AudioEmitType:
        if not hasattr(self, "numbers"):
            return None
        return AdditionalOutputs(await self.numbers.get())


class Owner(AsyncStreamHandler):
    """Reports each input with the id of its connection."""

    def copy(self) -> "Owner":
        return Owner()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        pass

    async def emit(self) -> AudioEmitType:
        await self.args_set.wait()
        self.reset()
        return AdditionalOutputs(get_current_context().webrtc_id, *self.latest_args[1:])


class SyncOwner(StreamHandler):
    """The same on threads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.latest_args

    def copy(self) -> "SyncOwner":
        return SyncOwner()

    def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        pass

    def emit(self) -> AudioEmitType:
        given = self.latest_args
        if given is self.seen:
            return None
        self.seen = given
        return AdditionalOutputs(get_current_context().webrtc_id, *given[1:])


app = FastAPI()
stream = Stream(Echo(), modality="audio", concurrency_limit=1000)
stream.mount(app)
volume = Stream(EchoHandler(), modality="audio", concurrency_limit=100, inputs=EchoInputs)
volume.mount(app, "/volume")
Stream(Numbered(), modality="audio", concurrency_limit=100).mount(app, "/numbered")
Stream(Echo(), modality="audio", concurrency_limit=3).mount(app, "/limited")
Stream(Numbered(), modality="audio", concurrency_limit=1, name="single").mount(app, "/single")
Stream(Owner(), modality="audio", concurrency_limit=100).mount(app, "/owner")
Stream(SyncOwner(), modality="audio", concurrency_limit=100).mount(app, "/sync-owner")

effect = Stream(
    VideoStreamHandler(video_effect.effect, skip_frames=True),
    modality="video",
    concurrency_limit=10,
    inputs=video_effect.EffectInputs,
    track_constraints={"width": 320, "height": 240, "frameRate": 15},
)
effect.mount(app, "/effect")


def film(brightness: int) -> Iterator[AudioVideoEmitType]:
    """25 frames a second, each with its 40 ms of a tone."""
    at = np.arange(960) / 24000
    tone = (np.sin(2 * np.pi * 500 * at) * 12000).astype(np.int16)
    while True:
        yield np.full((240, 320, 3), brightness, np.uint8), (24000, tone)


class FilmInputs(BaseModel):
    brightness: int = Field(200, ge=0, le=255)


cinema = Stream(
    film, modality="audio-video", mode="receive", concurrency_limit=10, inputs=FilmInputs
)
cinema.mount(app, "/cinema")

misbehaving.mount(app)


class InputData(BaseModel):
    """As in the specification's example."""

    webrtc_id: str
    conf_threshold: float = Field(ge=0, le=1)


@app.post("/spec/input_hook")
async def input_hook(data: InputData) -> None:
    stream.set_input(data.webrtc_id, data.conf_threshold)


@app.post("/spec/input_hook_sync")
def input_hook_sync(data: InputData) -> None:
    stream.set_input(data.webrtc_id, data.conf_threshold)


@app.get("/spec/updates")
async def stream_updates(webrtc_id: str) -> StreamingResponse:
    async def output_stream() -> AsyncIterator[str]:
        async for output in stream.output_stream(webrtc_id):
            yield f"data: {output.args[0]}\n\n"

    return StreamingResponse(output_stream(), media_type="text/event-stream")


@app.get("/spec/latest")
async def latest(webrtc_id: str) -> Any:
    output = await stream.fetch_latest_output(webrtc_id)
    return output.args[0]
