"""Cartesia's text to speech, a service on the internet; it wants a key and no package."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rayrtc.audio import async_aggregate_bytes_to_16bit
from rayrtc.speech_synthesis import TTSModel, TTSOptions, sentences

URL = "https://api.cartesia.ai/tts/bytes"
TIMEOUT = 30.0
"""Seconds that the service may be silent."""

Piece = tuple[int, NDArray[np.int16]]


@dataclass
class CartesiaTTSOptions(TTSOptions):
    """What the service's documentation says of them; `emotion` has no effect."""

    voice: str = "71a7ad14-091c-4e8e-a314-022ece01c121"
    language: str = "en"
    emotion: list[str] = field(default_factory=list)
    cartesia_version: str = "2024-06-10"
    model: str = "sonic-2"
    sample_rate: int = 22_050


class CartesiaTTSModel(TTSModel[CartesiaTTSOptions]):
    """Speaks as the service sends it.

    Raises:
        httpx.HTTPError: from each method: the service cannot be reached, or refuses.
    """

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    async def stream_tts(
        self, text: str, options: CartesiaTTSOptions | None = None
    ) -> AsyncGenerator[Piece, None]:
        import httpx  # its import takes a fifth of ours, and few have the service speak

        used = options or CartesiaTTSOptions()
        headers = {"X-API-Key": self._api_key, "Cartesia-Version": used.cartesia_version}
        async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT) as client:
            for sentence in sentences(text):
                request = _request(sentence, used)
                async with client.stream("POST", URL, json=request) as answer:
                    answer.raise_for_status()
                    async for samples in async_aggregate_bytes_to_16bit(answer.aiter_bytes()):
                        yield used.sample_rate, samples[0]

    def stream_tts_sync(
        self, text: str, options: CartesiaTTSOptions | None = None
    ) -> Generator[Piece, None, None]:
        with closing(asyncio.new_event_loop()) as loop:
            pieces = self.stream_tts(text, options)
            try:
                while True:
                    yield loop.run_until_complete(anext(pieces))
            except StopAsyncIteration:
                return
            finally:
                loop.run_until_complete(pieces.aclose())

    def tts(self, text: str, options: CartesiaTTSOptions | None = None) -> Piece:
        rate = (options or CartesiaTTSOptions()).sample_rate
        pieces = [samples for _, samples in self.stream_tts_sync(text, options)]
        return rate, np.concatenate([np.zeros(0, np.int16), *pieces])


def _request(text: str, options: CartesiaTTSOptions) -> dict[str, object]:
    return {
        "model_id": options.model,
        "transcript": text,
        "voice": {"mode": "id", "id": options.voice},
        "language": options.language,
        "output_format": {
            "container": "raw",
            "encoding": "pcm_s16le",
            "sample_rate": options.sample_rate,
        },
    }
