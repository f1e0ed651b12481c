"""Audio that a handler receives or emits, in the forms that speech models and files want."""

import io
import tempfile
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.int16] | NDArray[np.float32]
"""16-bit integers, or floats from -1 to 1."""
SampledAudio: TypeAlias = tuple[int, Samples]
"""The rate in Hz and the samples."""

MP3_BIT_RATE = 64_000
"""Bits per second of `audio_to_bytes`: transparent for speech."""


def audio_to_float32(audio: Samples | SampledAudio) -> NDArray[np.float32]:
    """Samples as floats; 16-bit integers are divided by 32768. Keeps the shape.

    A tuple of rate and samples is taken too, with a warning.

    Raises:
        TypeError: the samples are neither int16 nor float32.
    """
    samples = _samples(audio)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if samples.dtype == np.float32:
        return np.asarray(samples, np.float32)
    raise TypeError(f"audio must be int16 or float32, got {samples.dtype}")


def audio_to_int16(audio: Samples | SampledAudio) -> NDArray[np.int16]:
    """Samples as 16-bit integers; floats are clipped to -1..1 and multiplied by 32767.

    Keeps the shape. A tuple of rate and samples is taken too, with a warning.

    Raises:
        TypeError: the samples are neither int16 nor float32.
    """
    samples = _samples(audio)
    if samples.dtype == np.int16:
        return np.asarray(samples, np.int16)
    if samples.dtype == np.float32:
        clipped = np.clip(np.nan_to_num(samples), -1, 1) * np.float32(32767)
        return np.asarray(clipped, np.int16)
    raise TypeError(f"audio must be int16 or float32, got {samples.dtype}")


def audio_to_bytes(audio: SampledAudio) -> bytes:
    """Mono audio as an MP3 file.

    Args:
        audio: the rate in Hz and samples of shape (n,) or (1, n). A rate that MP3 does not have is
            converted to 48,000 Hz.

    Raises:
        TypeError: the samples are neither int16 nor float32.
    """
    import av  # here, as most handler files need no codec

    rate, samples = audio
    flat = np.ascontiguousarray(audio_to_int16(samples)).reshape(1, -1)
    target = io.BytesIO()
    with av.open(target, "w", format="mp3") as container:
        codec = av.Codec("libmp3lame", "w")
        rates = codec.audio_rates or []
        stream = container.add_stream("libmp3lame", rate if rate in rates else 48_000)
        stream.bit_rate = MP3_BIT_RATE
        stream.layout = "mono"
        if flat.size:
            frame = av.AudioFrame.from_ndarray(flat, format="s16", layout="mono")
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def audio_to_file(audio: SampledAudio) -> str:
    """`audio_to_bytes` in a new temporary file, which the caller removes; its path."""
    data = audio_to_bytes(audio)
    with tempfile.NamedTemporaryFile(suffix=".mp3", delete=False) as file:
        file.write(data)
    return file.name


def aggregate_bytes_to_16bit(chunks_iterator: Iterable[bytes]) -> Iterator[NDArray[np.int16]]:
    """Arrays of shape (1, n) from 16-bit PCM that arrives in chunks cut anywhere.

    Half a sample at the end of a chunk is kept for the next one; one at the very end is dropped.
    """
    rest = b""
    for chunk in chunks_iterator:
        array, rest = _whole_samples(rest + chunk)
        if array.size:
            yield array


async def async_aggregate_bytes_to_16bit(
    chunks_iterator: AsyncIterable[bytes],
) -> AsyncIterator[NDArray[np.int16]]:
    """`aggregate_bytes_to_16bit` for an async iterator."""
    rest = b""
    async for chunk in chunks_iterator:
        array, rest = _whole_samples(rest + chunk)
        if array.size:
            yield array


def _whole_samples(data: bytes) -> tuple[NDArray[np.int16], bytes]:
    end = len(data) // 2 * 2
    return np.frombuffer(data[:end], "<i2").astype(np.int16).reshape(1, -1), data[end:]


def _samples(audio: Samples | SampledAudio) -> NDArray[Any]:
    if isinstance(audio, tuple):
        warnings.warn(
            "pass the samples alone: a tuple of rate and samples is deprecated", stacklevel=3
        )
        return audio[1]
    return audio
