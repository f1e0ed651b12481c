"""Talk to it and it answers: `rayrtc dev examples.assistant:stream`.

It says how long you spoke: in words after `pip install rayrtc[espeak]`, or where eSpeak NG is
installed, else with tones. Interrupt it.
"""

import math
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from rayrtc import (
    AdditionalOutputs,
    AudioEmitType,
    EspeakTTSOptions,
    ReplyOnPause,
    Stream,
    TTSModel,
    get_tts_model,
)

RATE = 24000

voice: TTSModel[EspeakTTSOptions] | None
try:
    voice = get_tts_model("espeak")
except ImportError:
    voice = None


class AssistantInputs(BaseModel):
    """What the page's form and `POST /input_hook` set; asked for at each turn."""

    volume: float = Field(1.0, ge=0, le=1, description="Loudness of the answer.")
    name: str = Field("friend", max_length=40, description="What it calls you.")


def melody(seconds: float) -> NDArray[np.int16]:
    """A note for each second that was spoken, three at least."""
    at = np.arange(RATE // 4) / RATE
    envelope = np.sin(np.pi * at / at[-1])
    notes = [
        np.sin(2 * np.pi * 330 * 2 ** (note / 6) * at) * envelope
        for note in range(max(3, min(round(seconds), 12)))
    ]
    return (np.concatenate(notes) * 9000).astype(np.int16)


async def answer(
    audio: tuple[int, NDArray[np.int16]], volume: float, name: str
) -> AsyncIterator[AudioEmitType]:
    """Answer one utterance; ended at once when the speaker goes on."""
    rate, samples = audio
    seconds = samples.size / rate
    level = 20 * math.log10(max(float(np.sqrt(np.mean((samples / 32768) ** 2))), 1e-5))
    yield AdditionalOutputs({"seconds": round(seconds, 1), "level": round(level, 1)})
    if voice is None:
        yield RATE, (melody(seconds) * volume).astype(np.int16)
        return
    text = f"Well, {name}, you spoke for {seconds:.1f} seconds. What else can I do for you?"
    async for rate, spoken in voice.stream_tts(text):
        yield rate, (spoken * volume).astype(np.int16)


stream = Stream(
    ReplyOnPause(answer),
    modality="audio",
    mode="send-receive",
    concurrency_limit=20,
    inputs=AssistantInputs,
    ui_args={"title": "Assistant", "subtitle": "Say something, and wait for the answer."},
)
