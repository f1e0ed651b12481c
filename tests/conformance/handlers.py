"""The handlers of the application that the suite calls, written as for FastRTC."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from rayrtc import (
    AdditionalOutputs,
    AsyncAudioVideoStreamHandler,
    AsyncStreamHandler,
    AudioEmitType,
    CloseStream,
    VideoEmitType,
    Warning,
    WebRTCError,
    get_current_context,
)
from tests.conformance import effects

INTERVAL = 0.25
"""Seconds between two measurements, and how much sound one is of."""
RATE = 24000
FPS = 15


class Listening(AsyncStreamHandler):
    """Measures sound, and plays it back as loud as the inputs say if it is to `echo`."""

    def __init__(self, echo: bool = True) -> None:
        super().__init__()
        self.echo = echo
        self.frames: asyncio.Queue[NDArray[np.int16]] = asyncio.Queue(50)
        self.heard = np.zeros(0, np.int16)

    def copy(self) -> "Listening":
        return Listening(self.echo)

    async def start_up(self) -> None:
        await self.fetch_args()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        if not self.frames.full():
            self.frames.put_nowait(frame[1])

    async def emit(self) -> AudioEmitType:
        samples = await self.frames.get()
        strength = strength_of(self.latest_args)
        rate = self.input_sample_rate
        audio = (rate, (samples * strength).astype(np.int16)) if self.echo else None
        self.heard = np.append(self.heard, samples)
        if self.heard.size < INTERVAL * rate:
            return audio
        heard, self.heard = self.heard, self.heard[:0]
        measured = {
            "kind": "audio",
            "frequency": round(effects.frequency(heard, rate), 1),
            "level": round(effects.level(heard), 4),
            "strength": strength,
        }
        outputs = AdditionalOutputs(measured)
        return (audio, outputs) if audio is not None else outputs


class Watching(Listening, AsyncAudioVideoStreamHandler):
    """Does the same with pictures too, mirrored and stamped."""

    def __init__(self, echo: bool = True) -> None:
        super().__init__(echo)
        self.pictures: asyncio.Queue[NDArray[np.uint8]] = asyncio.Queue(1)
        self.measured_at = 0.0

    def copy(self) -> "Watching":
        return Watching(self.echo)

    async def video_receive(self, frame: NDArray[np.uint8]) -> None:
        if self.pictures.full():
            self.pictures.get_nowait()
        self.pictures.put_nowait(frame)

    async def video_emit(self) -> VideoEmitType:
        picture = await self.pictures.get()
        strength = strength_of(self.latest_args)
        reply = effects.stamped(effects.mirrored(picture), strength) if self.echo else None
        if time.monotonic() < self.measured_at + INTERVAL:
            return reply
        self.measured_at = time.monotonic()
        outputs = measured(picture, strength)
        return (reply, outputs) if reply is not None else outputs


class Showing(AsyncAudioVideoStreamHandler):
    """Plays the tone and shows the walking square, once it has inputs."""

    def __init__(self) -> None:
        super().__init__(fps=FPS)
        self.chunks = 0
        self.painted = 0
        self.started_at = 0.0

    def copy(self) -> "Showing":
        return Showing()

    async def start_up(self) -> None:
        await self.fetch_args()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        raise AssertionError("nothing is sent in receive mode")

    async def video_receive(self, frame: NDArray[np.uint8]) -> None:
        raise AssertionError("nothing is sent in receive mode")

    async def emit(self) -> AudioEmitType:
        await self.due(self.chunks * 0.02)
        strength = strength_of(self.latest_args)
        audio = RATE, effects.tone(self.chunks, RATE, RATE // 50, strength)
        self.chunks += 1
        if self.chunks % 12:
            return audio
        return audio, AdditionalOutputs({"kind": "tone", "strength": strength})

    async def video_emit(self) -> VideoEmitType:
        await self.due(self.painted / FPS)
        strength = strength_of(self.latest_args)
        picture = effects.painted(self.painted, strength)
        self.painted += 1
        if self.painted % 4:
            return picture
        return picture, AdditionalOutputs({"kind": "picture", "strength": strength})

    async def due(self, seconds: float) -> None:
        """Return so many `seconds` after the first inputs."""
        await self.args_set.wait()
        self.started_at = self.started_at or time.monotonic()
        await asyncio.sleep(max(0.0, self.started_at + seconds - time.monotonic()))


def mirror(picture: NDArray[np.uint8], strength: float = 1.0) -> VideoEmitType:
    """Of each picture: mirrored and stamped, and its measurement."""
    reply = effects.stamped(effects.mirrored(picture), strength)
    return reply, measured(picture, strength)


def watch(picture: NDArray[np.uint8], strength: float = 1.0) -> VideoEmitType:
    """Of each picture its measurement alone."""
    return measured(picture, strength)


def play(strength: float) -> Iterator[AudioEmitType]:
    """The tone, with an output four times a second."""
    count = 0
    while True:
        yield RATE, effects.tone(count, RATE, RATE // 50, strength)
        count += 1
        if count % 12 == 0:
            yield AdditionalOutputs({"kind": "tone", "strength": strength})


def play_at_once() -> Iterator[AudioEmitType]:
    """The tone, without waiting for inputs."""
    return play(1.0)


def show(strength: float) -> Iterator[VideoEmitType]:
    """The walking square, with an output every fourth picture."""
    count = 0
    while True:
        picture = effects.painted(count, strength)
        count += 1
        if count % 4:
            yield picture
        else:
            yield picture, AdditionalOutputs({"kind": "picture", "strength": strength})


def strength_of(latest_args: list[Any]) -> float:
    return float(latest_args[1]) if len(latest_args) > 1 else 1.0


def measured(picture: NDArray[np.uint8], strength: float) -> AdditionalOutputs:
    """The mean brightness of the picture and of its halves as they arrived."""
    half = picture.shape[1] // 2
    return AdditionalOutputs(
        {
            "kind": "picture",
            "brightness": round(float(picture.mean()), 1),
            "left": round(float(picture[:, :half].mean()), 1),
            "right": round(float(picture[:, half:].mean()), 1),
            "strength": strength,
        }
    )


class Said(BaseModel):
    """A value of an output."""

    text: str


class Obedient(AsyncStreamHandler):
    """Does what the inputs `[command, value]` say, each once when they change; plays no sound.

    See the table in `tests.conformance.app`.
    """

    def __init__(self) -> None:
        super().__init__(input_sample_rate=8000, output_sample_rate=8000)
        self.done: list[Any] = []
        self.results: asyncio.Queue[AudioEmitType] = asyncio.Queue()

    def copy(self) -> "Obedient":
        return Obedient()

    async def start_up(self) -> None:
        context = get_current_context()
        self.results.put_nowait(AdditionalOutputs(context.webrtc_id, self.phone_mode))

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        inputs = self.latest_args[1:]
        if len(inputs) != 2 or inputs == self.done:
            return
        self.done = inputs
        await self.obey(*inputs)

    async def obey(self, command: str, value: Any) -> None:
        if command == "message":
            await self.send_message(value)
        elif command == "ask":
            await self.fetch_args()
        elif command == "warn":
            Warning(value)
        elif command == "fail":
            raise WebRTCError(value)
        elif command == "raise":
            raise ValueError(value)
        elif command == "count":
            for number in range(value):
                self.results.put_nowait(AdditionalOutputs(number))
        elif command == "types":
            several = (
                np.array([[1, 2]], np.int16),
                b"bytes",
                Said(text="said"),
                None,
                {"a": [1.5]},
            )
            self.results.put_nowait(AdditionalOutputs(value, *several))
        elif command == "large":
            self.results.put_nowait(AdditionalOutputs("x" * value))
        elif command == "play":
            self.results.put_nowait(AdditionalOutputs("playing"))
            self.results.put_nowait((RATE, effects.tone(0, RATE, round(value * RATE), 1)))
        elif command == "close":
            self.results.put_nowait(CloseStream(value))

    async def emit(self) -> AudioEmitType:
        return await self.results.get()
