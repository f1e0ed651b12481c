"""How loud you are, four times a second: `rayrtc dev examples.level_meter:stream`."""

import asyncio
import math

import numpy as np
from numpy.typing import NDArray

from rayrtc import AdditionalOutputs, AsyncStreamHandler, AudioEmitType, Stream

PERIOD = 0.25
"""Seconds between two readings."""


class LevelMeter(AsyncStreamHandler):
    """Takes sound and gives numbers: peak and mean level in dB of full scale."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=16000)
        self.heard: list[NDArray[np.int16]] = []

    def copy(self) -> "LevelMeter":
        return LevelMeter()

    async def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        self.heard.append(frame[1])

    async def emit(self) -> AudioEmitType:
        await asyncio.sleep(PERIOD)
        heard, self.heard = self.heard, []
        if not heard:
            return None
        samples = np.concatenate(heard, axis=1).astype(np.float64) / 32768
        peak, mean = np.abs(samples).max(), np.sqrt(np.mean(samples**2))
        return AdditionalOutputs({"peak": decibels(peak), "mean": decibels(mean)})


def decibels(value: float) -> float:
    return round(20 * math.log10(max(float(value), 1e-5)), 1)


stream = Stream(
    LevelMeter(),
    modality="audio",
    mode="send",
    concurrency_limit=100,
    ui_args={"title": "Level meter", "subtitle": "Speak; nothing is sent back."},
)
