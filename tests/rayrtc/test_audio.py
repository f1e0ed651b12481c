"""Conversions that handlers do with what they hear: a wrong one is noise in a user's ear."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest

from rayrtc import (
    aggregate_bytes_to_16bit,
    async_aggregate_bytes_to_16bit,
    audio_to_bytes,
    audio_to_file,
    audio_to_float32,
    audio_to_int16,
)


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    at = np.arange(round(rate * seconds)) / rate
    return (np.sin(2 * np.pi * 440 * at) * 12000).astype(np.int16)


def decoded(data: bytes) -> tuple[int, np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    return frames[0].sample_rate, np.concatenate([frame.to_ndarray()[0] for frame in frames])


def pitch(rate: int, samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def test_floats_are_integers_over_32768() -> None:
    samples = np.array([[-32768, 0, 16384]], np.int16)
    converted = audio_to_float32(samples)
    assert converted.dtype == np.float32
    assert converted.tolist() == [[-1.0, 0.0, 0.5]]
    assert audio_to_float32(converted) is converted


def test_integers_are_clipped_and_not_wrapped() -> None:
    samples = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, np.nan], np.float32)
    assert audio_to_int16(samples).tolist() == [-32767, -32767, 0, 16383, 32767, 32767, 0]


def test_other_types_are_refused() -> None:
    for convert in (audio_to_float32, audio_to_int16):
        with pytest.raises(TypeError, match="float64"):
            convert(np.zeros(3))  # type: ignore[arg-type]


def test_a_tuple_still_works_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        assert audio_to_float32((8000, np.array([16384], np.int16))).tolist() == [0.5]


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000, 22222])
def test_mp3_holds_the_tone(rate: int) -> None:
    coded_rate, samples = decoded(audio_to_bytes((rate, tone(rate).reshape(1, -1))))
    assert pitch(coded_rate, samples) == pytest.approx(440, abs=3)
    assert len(samples) / coded_rate == pytest.approx(1.0, abs=0.15)


def test_mp3_of_floats_is_no_noise() -> None:
    rate, samples = decoded(audio_to_bytes((24000, audio_to_float32(tone(24000)))))
    assert pitch(rate, samples) == pytest.approx(440, abs=3)


def test_an_mp3_file_is_left_to_the_caller() -> None:
    path = Path(audio_to_file((16000, tone(16000, 0.2))))
    try:
        assert path.suffix == ".mp3"
        assert decoded(path.read_bytes())[0] == 16000
    finally:
        path.unlink()


async def test_samples_cut_in_half_are_joined() -> None:
    samples = np.arange(-500, 500, dtype=np.int16)
    data = samples.tobytes()
    chunks = [data[i : i + 7] for i in range(0, len(data), 7)] + [b"", b"\x01"]
    arrays = list(aggregate_bytes_to_16bit(chunks))
    assert all(array.shape[0] == 1 for array in arrays)
    assert np.array_equal(np.concatenate(arrays, axis=1)[0], samples)

    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    again = [array async for array in async_aggregate_bytes_to_16bit(arriving())]
    assert np.array_equal(np.concatenate(again, axis=1)[0], samples)
