"""Speech to text: what a model is, and Moonshine's (`rayrtc[stt]`).

The package is loaded when a model is made. Its weights come from its authors' hub at first use, or
from a directory.
"""

from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayrtc.audio import SampledAudio, audio_to_float32
from rayrtc.rate_converter import RateConverter
from rayrtc.voice_detection import RATE, AudioChunk

SHORTEST = 0.1
"""Seconds below which Moonshine understands nothing."""

MoonshineName: TypeAlias = Literal["moonshine/base", "moonshine/tiny"]


class STTModel(Protocol):
    """Speech to text. Blocks: not for an event loop."""

    def stt(self, audio: SampledAudio) -> str:
        """The words in `audio`, shape (n,) or (1, n)."""
        ...


class MoonshineSTT(STTModel):
    """Moonshine, English, on the CPU.

    Args:
        model: base or tiny.
        directory: holds `encoder_model.onnx` and `decoder_model_merged.onnx`; unset: they are
            downloaded.

    Raises:
        ImportError: `useful-moonshine-onnx` is not installed.
    """

    model: Any
    """The package's; takes and gives what it likes."""
    tokenizer: Any

    def __init__(
        self,
        model: MoonshineName = "moonshine/base",
        directory: str | PathLike[str] | None = None,
    ) -> None:
        try:
            from moonshine_onnx import MoonshineOnnxModel, load_tokenizer
        except ImportError as error:
            raise ImportError("Moonshine needs `pip install rayrtc[stt]`") from error
        self.model = MoonshineOnnxModel(models_dir=directory, model_name=model)
        self.tokenizer = load_tokenizer()

    def stt(self, audio: SampledAudio) -> str:
        rate, samples = audio
        converted = RateConverter(rate, RATE).convert(audio_to_float32(samples).reshape(-1))
        if len(converted) < SHORTEST * RATE:
            return ""
        tokens = self.model.generate(converted.reshape(1, -1))
        return str(self.tokenizer.decode_batch(tokens)[0])


@lru_cache
def get_stt_model(
    model: MoonshineName = "moonshine/base", directory: str | PathLike[str] | None = None
) -> STTModel:
    """The model of this process, ready to be used; see `MoonshineSTT`.

    Raises:
        ImportError: its package is not installed.
    """
    made = MoonshineSTT(model, directory)
    made.stt((RATE, np.zeros(RATE, np.float32)))  # the first call takes longer
    return made


def stt_for_chunks(stt_model: STTModel, audio: SampledAudio, chunks: Sequence[AudioChunk]) -> str:
    """The words in the stretches of speech that a voice detector found in `audio`, shape (n,)."""
    rate, samples = audio
    pieces: list[NDArray[Any]] = [samples[chunk["start"] : chunk["end"]] for chunk in chunks]
    return " ".join(stt_model.stt((rate, piece)) for piece in pieces)
