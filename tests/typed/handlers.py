"""What a handler author writes, in every kind that `Stream` takes: read by type checkers.

`make types` checks it with mypy in strict mode; nothing runs it.
"""

import asyncio
import functools
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from rayrtc import (
    AdditionalOutputs,
    AlgoOptions,
    AppState,
    AsyncAudioVideoStreamHandler,
    AsyncStreamHandler,
    AudioEmitType,
    AudioFrame,
    AudioVideoEmitType,
    AudioVideoStreamHandler,
    CloseStream,
    KokoroTTSOptions,
    ModelOptions,
    PauseDetectionModel,
    ReplyOnPause,
    ReplyOnStopWords,
    SileroVadOptions,
    Stream,
    StreamHandler,
    UIArgs,
    VideoEmitType,
    VideoStreamHandler,
    Warning,
    WebRTCData,
    WebRTCError,
    audio_to_bytes,
    audio_to_float32,
    get_cloudflare_turn_credentials_async,
    get_current_context,
    get_silero_model,
    get_stt_model,
    get_tts_model,
    get_twilio_turn_credentials,
    transcribing,
    wait_for_item,
)

Frame = NDArray[np.uint8]


class Echo(AsyncStreamHandler):
    """Plays back what it hears."""

    def __init__(self) -> None:
        super().__init__("mono", output_sample_rate=24000, input_sample_rate=24000)
        self.queue: asyncio.Queue[tuple[int, NDArray[np.int16]] | AdditionalOutputs] = (
            asyncio.Queue()
        )

    def copy(self) -> "Echo":
        return Echo()

    async def start_up(self) -> None:
        await self.wait_for_args()
        volume: Any = self.latest_args[1]
        await self.queue.put(AdditionalOutputs({"volume": volume}, np.zeros(3), b"raw"))

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        rate, samples = frame
        if not samples.any():
            Warning(f"{get_current_context().webrtc_id} is silent")
        self.queue.put_nowait((rate, samples * 2))

    async def emit(self) -> AudioEmitType:
        return await wait_for_item(self.queue)

    async def shutdown(self) -> None:
        await self.send_message("{}")
        self.clear_queue()


class Siren(StreamHandler):
    """A plain handler; what it emits has every form."""

    def __init__(self, pitch: float, layout: Literal["mono", "stereo"] = "mono") -> None:
        super().__init__(expected_layout=layout, output_frame_size=480, fps=25)
        self.pitch = pitch
        self.heard: queue.Queue[AudioFrame] = queue.Queue()

    def copy(self) -> Self:
        return type(self)(self.pitch)

    def receive(self, frame: AudioFrame) -> None:
        self.heard.put(frame)

    def emit(self) -> AudioEmitType:
        rate, samples = self.heard.get(timeout=1)
        if self.phone_mode:
            return rate, samples, "mono"
        if samples.size > 4000:
            return CloseStream("enough")
        if samples.size > 3000:
            return (rate, audio_to_float32(samples)), AdditionalOutputs(samples.size)
        if samples.size > 2000:
            raise WebRTCError("too much")
        return (rate, np.repeat(samples, 2, axis=1), "stereo") if samples.size else None

    def start_up(self) -> None:
        self.wait_for_args_sync()
        self.send_message_sync("{}")

    def shutdown(self) -> None:
        self.reset()


class Mirror(AsyncAudioVideoStreamHandler):
    """Sound and pictures on the event loop."""

    def __init__(self) -> None:
        super().__init__(fps=15)
        self.sounds: asyncio.Queue[AudioFrame] = asyncio.Queue()
        self.pictures: asyncio.Queue[Frame] = asyncio.Queue()

    def copy(self) -> "Mirror":
        return Mirror()

    async def receive(self, frame: AudioFrame) -> None:
        self.sounds.put_nowait(frame)

    async def emit(self) -> AudioEmitType:
        return await self.sounds.get()

    async def video_receive(self, frame: Frame) -> None:
        self.pictures.put_nowait(frame[:, ::-1])

    async def video_emit(self) -> VideoEmitType:
        picture = await self.pictures.get()
        return picture, AdditionalOutputs(picture.shape[0])


class PlainMirror(AudioVideoStreamHandler):
    """The same on threads."""

    def copy(self) -> "PlainMirror":
        return PlainMirror()

    def receive(self, frame: AudioFrame) -> None: ...

    def emit(self) -> AudioEmitType: ...

    def video_receive(self, frame: Frame) -> None: ...

    def video_emit(self) -> VideoEmitType: ...


def flip(frame: Frame, amount: float = 0.5) -> Frame:
    return (frame[::-1] * amount).astype(np.uint8)


def detect(frame: Frame, threshold: float) -> tuple[Frame, AdditionalOutputs]:
    return frame, AdditionalOutputs(float(frame.mean()) > threshold)


def watch(frame: Frame) -> AdditionalOutputs | CloseStream | None:
    return CloseStream() if frame.mean() < 1 else AdditionalOutputs(float(frame.mean()))


def slideshow(count: int) -> Iterator[Frame]:
    for shade in range(count):
        yield np.full((240, 320, 3), shade, np.uint8)


async def clock() -> AsyncIterator[VideoEmitType]:
    while True:
        yield np.zeros((240, 320, 3), np.uint8)
        await asyncio.sleep(1)


def tune(notes: list[float]) -> Generator[AudioEmitType, None, None]:
    for note in notes:
        yield 24000, np.full((1, 480), note, np.float32)


async def film() -> AsyncGenerator[AudioVideoEmitType, None]:
    silence = 48000, np.zeros((1, 960), np.int16)
    yield (np.zeros((240, 320, 3), np.uint8), silence), AdditionalOutputs("begin")
    yield np.zeros((240, 320, 3), np.uint8)


def reply(audio: AudioFrame) -> Generator[AudioEmitType, None, None]:
    audio_to_bytes(audio)
    yield audio


async def reply_with_inputs(
    audio: AudioFrame, prompt: str, history: list[dict[str, str]]
) -> AsyncGenerator[AudioEmitType, None]:
    history.append({"role": "user", "content": prompt})
    yield AdditionalOutputs(history)
    yield audio


def reply_to_text(data: WebRTCData) -> Iterator[AudioEmitType]:
    yield AdditionalOutputs(data.textbox)


def answer(audio: AudioFrame) -> Iterator[AudioEmitType]:
    text = get_stt_model().stt(audio)
    options = KokoroTTSOptions(voice="af_heart", speed=1.2)
    yield from get_tts_model().stream_tts_sync(text, options)


async def answer_in_pieces(audio: AudioFrame) -> AsyncGenerator[AudioEmitType, None]:
    async for spoken in get_tts_model("espeak").stream_tts(get_stt_model().stt(audio)):
        yield spoken


def greet() -> Iterator[AudioEmitType]:
    yield 24000, np.zeros((1, 480), np.int16)


class Patient(ReplyOnPause):
    """Ends a turn by a rule of its own."""

    def determine_pause(
        self, audio: NDArray[np.int16], sampling_rate: int, state: AppState
    ) -> bool:
        if audio.size > 10 * sampling_rate:
            self.trigger_response()
        return super().determine_pause(audio, sampling_rate, state)


class Energy:
    """A voice detector of the author's own."""

    def vad(
        self, audio: tuple[int, NDArray[np.int16] | NDArray[np.float32]], options: ModelOptions
    ) -> tuple[float, list[Any]]:
        rate, samples = audio
        return (samples.size / rate if np.abs(samples).max() > 1000 else 0.0), []

    def warmup(self) -> None: ...


class Whisper:
    """A speech-to-text model of the author's own."""

    def stt(self, audio: tuple[int, NDArray[np.int16] | NDArray[np.float32]]) -> str:
        return ""


model: PauseDetectionModel = Energy()
talk = ReplyOnPause(
    reply_with_inputs,
    startup_fn=greet,
    algo_options=AlgoOptions(audio_chunk_duration=0.5),
    model_options=SileroVadOptions(threshold=0.6),
    can_interrupt=False,
    model=get_silero_model(),
)
computer = ReplyOnStopWords(
    reply, ["computer"], input_sample_rate=16000, recognition=transcribing(Whisper())
)


class Settings(BaseModel):
    """What `POST /input_hook` takes."""

    threshold: float = 0.5


async def ice_servers() -> dict[str, Any]:
    return await get_cloudflare_turn_credentials_async(ttl=600)


look: UIArgs = {"title": "Echo", "subtitle": "Say something"}
streams = [
    Stream(Echo(), modality="audio", mode="send-receive", concurrency_limit=10, ui_args=look),
    Stream(Siren(440), modality="audio", mode="send", time_limit=90, inputs=Settings),
    Stream(Mirror(), modality="audio-video", rtc_configuration=ice_servers),
    Stream(PlainMirror(), modality="audio-video", rtc_configuration=get_twilio_turn_credentials),
    Stream(flip, modality="video", rtp_params={"degradationPreference": "maintain-framerate"}),
    Stream(functools.partial(detect, threshold=0.3), concurrency_limit="default"),
    Stream(watch, mode="send", track_constraints={"frameRate": {"max": 5}}),
    Stream(VideoStreamHandler(detect, fps=10, skip_frames=True), concurrency_limit=None),
    Stream(slideshow, mode="receive", modality="video"),
    Stream(VideoStreamHandler(slideshow, fps=1), mode="receive", modality="video"),
    Stream(clock, mode="receive", modality="video", rtc_configuration={"iceServers": []}),
    Stream(tune, mode="receive", modality="audio", server_rtc_configuration={"iceServers": []}),
    Stream(film, mode="receive", modality="audio-video", name="film"),
    Stream(ReplyOnPause(reply, model=model), modality="audio"),
    Stream(ReplyOnPause(reply_to_text, needs_args=True), modality="audio"),
    Stream(Patient(reply), modality="audio", allow_extra_tracks=True, verbose=False),
    Stream(ReplyOnPause(answer), modality="audio"),
    Stream(ReplyOnPause(answer_in_pieces), modality="audio"),
    Stream(talk, modality="audio"),
    Stream(computer, modality="audio"),
]
