"""Moonshine behind FastRTC's names, with a stand-in for its package and weights."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rayrtc import MoonshineSTT, ReplyOnStopWords, get_stt_model, stt_for_chunks, transcribing
from tests.speech import recording, tone


class StandIn:
    """What `useful-moonshine-onnx` 20251121 has, as far as it is used."""

    made: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, models_dir: Any = None, model_name: Any = None) -> None:
        self.made.append({"models_dir": models_dir, "model_name": model_name})
        self.heard: list[np.ndarray] = []

    def generate(self, audio: np.ndarray, max_len: int | None = None) -> list[list[int]]:
        assert audio.ndim == 2
        assert audio.shape[0] == 1
        assert audio.dtype == np.float32
        self.heard.append(audio)
        return [[1, audio.size, 2]]


class Tokenizer:
    def decode_batch(self, tokens: list[list[int]]) -> list[str]:
        return [f"computer, {batch[1]} samples" for batch in tokens]


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(StandIn, "made", [])
    module = SimpleNamespace(MoonshineOnnxModel=StandIn, load_tokenizer=Tokenizer)
    monkeypatch.setitem(sys.modules, "moonshine_onnx", module)
    get_stt_model.cache_clear()
    yield
    get_stt_model.cache_clear()


def test_any_audio_reaches_the_model_as_it_wants_it() -> None:
    model = MoonshineSTT()
    assert StandIn.made == [{"models_dir": None, "model_name": "moonshine/base"}]
    for audio in (
        (48000, tone(1.0)),
        (24000, tone(1.0, rate=24000).reshape(1, -1)),
        (16000, np.sin(np.arange(16000) / 5).astype(np.float32)),
    ):
        words = model.stt(audio)
        count = model.model.heard[-1].size
        assert words == f"computer, {count} samples"
        assert 15900 <= count <= 16000
        assert 0.2 < np.abs(model.model.heard[-1]).max() <= 1
    before = len(model.model.heard)
    assert model.stt((48000, tone(0.05))) == "", "the model fails on less than 0.1 s"
    assert len(model.model.heard) == before


def test_one_model_for_a_process_that_has_been_warmed_up() -> None:
    model = get_stt_model("moonshine/tiny", directory="/models/tiny")
    assert get_stt_model("moonshine/tiny", directory="/models/tiny") is model
    assert StandIn.made == [{"models_dir": "/models/tiny", "model_name": "moonshine/tiny"}]
    assert isinstance(model, MoonshineSTT)
    assert len(model.model.heard) == 1


def test_the_stretches_of_speech_are_transcribed_one_by_one() -> None:
    audio = 16000, np.zeros(48000, np.int16)
    chunks = [{"start": 0, "end": 16000}, {"start": 24000, "end": 48000}]
    words = stt_for_chunks(MoonshineSTT(), audio, chunks)  # type: ignore[arg-type]
    assert words == "computer, 16000 samples computer, 24000 samples"


def test_it_hears_stop_words() -> None:
    handler = ReplyOnStopWords(
        lambda audio: audio, ["computer"], recognition=transcribing(get_stt_model())
    )
    recogniser = handler.recognition(handler.stop_words)
    samples = recording("story")
    heard = [recogniser.hear((48000, samples[at : at + 960])) for at in range(0, len(samples), 960)]
    assert "computer" in heard


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moonshine_onnx", None)
    with pytest.raises(ImportError, match=r"pip install rayrtc\[stt\]"):
        get_stt_model()
