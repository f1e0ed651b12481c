"""Kokoro, a voice that sounds human, by the `kokoro-onnx` package (`rayrtc[tts]`)."""

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayrtc.speech_synthesis import TTSModel, TTSOptions, sentences

REPOSITORY = "fastrtc/kokoro-onnx"
"""On the hub; the files have the same names in a directory."""
MODEL, VOICES = "kokoro-v1.0.onnx", "voices-v1.0.bin"
PAUSE = 1 / 7
"""Seconds of silence between two sentences."""

Piece = tuple[int, NDArray[np.float32]]


@dataclass
class KokoroTTSOptions(TTSOptions):
    """One of the model's voices, its speed (0.5 to 2) and the language of the text."""

    voice: str = "af_heart"
    speed: float = 1.0
    lang: str = "en-us"


class KokoroTTSModel(TTSModel[KokoroTTSOptions]):
    """Speaks at 24 kHz; for short sentences about as fast as they last, on one core.

    Args:
        directory: holds `kokoro-v1.0.onnx` and `voices-v1.0.bin`; unset: they are downloaded,
            340 MB.

    Raises:
        ImportError: `kokoro-onnx` is not installed.
    """

    model: Any
    """The package's."""

    def __init__(self, directory: str | PathLike[str] | None = None) -> None:
        try:
            from huggingface_hub import hf_hub_download
            from kokoro_onnx import Kokoro
        except ImportError as error:
            raise ImportError("Kokoro needs `pip install rayrtc[tts]`") from error
        if directory is None:
            paths = [hf_hub_download(REPOSITORY, name) for name in (MODEL, VOICES)]
        else:
            paths = [str(Path(directory) / name) for name in (MODEL, VOICES)]
        self.model = Kokoro(*paths)

    def tts(self, text: str, options: KokoroTTSOptions | None = None) -> Piece:
        samples, rate = self.model.create(text, **_arguments(options))
        return rate, samples

    async def stream_tts(
        self, text: str, options: KokoroTTSOptions | None = None
    ) -> AsyncGenerator[Piece, None]:
        for count, sentence in enumerate(sentences(text)):
            begun = False
            async for samples, rate in self.model.create_stream(sentence, **_arguments(options)):
                if count and not begun:
                    yield _pause(rate)
                begun = True
                yield rate, samples

    def stream_tts_sync(
        self, text: str, options: KokoroTTSOptions | None = None
    ) -> Generator[Piece, None, None]:
        for count, sentence in enumerate(sentences(text)):
            rate, samples = self.tts(sentence, options)
            if count:
                yield _pause(rate)
            yield rate, samples


def _arguments(options: KokoroTTSOptions | None) -> dict[str, Any]:
    used = options or KokoroTTSOptions()
    return {"voice": used.voice, "speed": used.speed, "lang": used.lang}


def _pause(rate: int) -> Piece:
    return rate, np.zeros(round(rate * PAUSE), np.float32)
