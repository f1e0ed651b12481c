"""Hear yourself, as loud as you like: `make run`, or `rayrtc dev examples.echo:stream`."""

import asyncio
import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from rayrtc import AdditionalOutputs, AsyncStreamHandler, AudioEmitType, Stream


class EchoInputs(BaseModel):
    """What the page's form and `POST /input_hook` set."""

    volume: float = Field(1.0, ge=0, le=2, description="Loudness of the echo; 1 is as you speak.")


class EchoHandler(AsyncStreamHandler):
    """Plays back what it hears and reports its level in dB of full scale once a second."""

    def __init__(self) -> None:
        super().__init__(output_sample_rate=48000, input_sample_rate=48000)
        self.frames: asyncio.Queue[NDArray[np.int16]] = asyncio.Queue(maxsize=50)
        self.emitted = 0

    def copy(self) -> "EchoHandler":
        return EchoHandler()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        if self.frames.full():  # a second behind: the oldest frame is worth least
            self.frames.get_nowait()
        self.frames.put_nowait(frame[1])

    async def emit(self) -> AudioEmitType:
        samples = (await self.frames.get()).astype(np.float32) / np.float32(32768)
        volume = self.latest_args[1] if self.args_set.is_set() else 1.0
        samples *= volume
        audio = (self.input_sample_rate, samples.clip(-1, 1))
        self.emitted += 1
        if self.emitted % 50:
            return audio
        level = 20 * math.log10(max(float(np.sqrt(np.mean(samples**2))), 1e-5))
        return audio, AdditionalOutputs({"level": round(level, 1), "volume": volume})


stream = Stream(
    EchoHandler(),
    modality="audio",
    mode="send-receive",
    concurrency_limit=100,
    inputs=EchoInputs,
    ui_args={"title": "Echo", "subtitle": "Say something and hear it back."},
)
