"""Text to speech: what a model is, and which there are.

    model = get_tts_model("espeak")
    for rate, samples in model.stream_tts_sync("Hello. How are you?"):
        ...

A model's package is loaded when the model is made.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator
from functools import lru_cache
from typing import Any, Generic, Literal, Protocol, TypeVar

from rayrtc.audio import SampledAudio


class TTSOptions:
    """How a model is to speak; each has options of its own."""


Options = TypeVar("Options", bound=TTSOptions, contravariant=True)
OwnOptions = TypeVar("OwnOptions", bound=TTSOptions)


class TTSModel(Protocol[Options]):
    """Text to speech. Samples are mono, shape (n,)."""

    def tts(self, text: str, options: Options | None = None) -> SampledAudio:
        """All of it at once. Blocks: not for an event loop."""
        ...

    def stream_tts(
        self, text: str, options: Options | None = None
    ) -> AsyncGenerator[SampledAudio, None]:
        """Piece by piece, each as soon as it is spoken."""
        ...

    def stream_tts_sync(
        self, text: str, options: Options | None = None
    ) -> Generator[SampledAudio, None, None]:
        """The same for a handler's thread."""
        ...


class SentenceTTSModel(TTSModel[OwnOptions], Generic[OwnOptions]):
    """A model that says a sentence at once; what it streams are sentences."""

    @abstractmethod
    def tts(self, text: str, options: OwnOptions | None = None) -> SampledAudio: ...

    async def stream_tts(
        self, text: str, options: OwnOptions | None = None
    ) -> AsyncGenerator[SampledAudio, None]:
        for sentence in sentences(text):
            yield await asyncio.to_thread(self.tts, sentence, options)

    def stream_tts_sync(
        self, text: str, options: OwnOptions | None = None
    ) -> Generator[SampledAudio, None, None]:
        for sentence in sentences(text):
            yield self.tts(sentence, options)


def sentences(text: str) -> list[str]:
    """`text` cut after each full stop, question mark or exclamation mark."""
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text.strip()) if sentence]


@lru_cache
def get_tts_model(
    model: Literal["kokoro", "cartesia", "espeak"] = "kokoro", **kwargs: Any
) -> TTSModel[Any]:
    """The model of this process with these arguments, ready to be used.

    Args:
        model: `kokoro` (`rayrtc[tts]`; its weights are downloaded at first use, or are in the
            `directory` given), `cartesia` (a service; `cartesia_api_key`), or `espeak`
            (`rayrtc[espeak]`: nothing is downloaded, and it sounds like a machine).

    Raises:
        ImportError: its package is not installed.
        ValueError: there is no such model.
    """
    if model == "kokoro":
        from rayrtc.kokoro import KokoroTTSModel

        return KokoroTTSModel(**kwargs)
    if model == "cartesia":
        from rayrtc.cartesia import CartesiaTTSModel

        return CartesiaTTSModel(kwargs.get("cartesia_api_key", ""))
    if model == "espeak":
        from rayrtc.espeak import EspeakTTSModel

        return EspeakTTSModel()
    raise ValueError(f"there is no model {model!r}: kokoro, cartesia or espeak")
