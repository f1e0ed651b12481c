"""A station that plays a tune without end: `rayrtc dev examples.radio:stream`."""

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, Field

from rayrtc import AdditionalOutputs, AudioEmitType, Stream

RATE = 24_000
NOTES = {"C": 261.63, "D": 293.66, "E": 329.63, "F": 349.23, "G": 392.0, "A": 440.0}
TUNE = "CCGGAAG FFEEDDC "


class RadioInputs(BaseModel):
    """The first of them start the programme."""

    tempo: float = Field(120, ge=40, le=240, description="Notes per minute.")


def radio(tempo: float) -> Iterator[AudioEmitType]:
    """One note at a time, with its name as an output. Runs ahead of the listener by 0.2 s."""
    at = np.arange(round(RATE * 60 / tempo)) / RATE
    fading = np.exp(-3 * at)
    while True:
        for name in TUNE:
            note = np.sin(2 * np.pi * NOTES.get(name, 0) * at) * fading
            yield (RATE, (note * 0.4).astype(np.float32)), AdditionalOutputs(name)


stream = Stream(
    radio,
    modality="audio",
    mode="receive",
    concurrency_limit=100,
    inputs=RadioInputs,
    ui_args={"title": "Radio", "subtitle": "Listen; no microphone is needed."},
)
