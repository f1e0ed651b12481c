"""Text to speech: eSpeak NG for real, Kokoro with a stand-in, Cartesia's service on loopback."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web

from rayrtc import (
    CartesiaTTSModel,
    CartesiaTTSOptions,
    EspeakTTSOptions,
    KokoroTTSModel,
    KokoroTTSOptions,
    cartesia,
    espeak,
    get_tts_model,
)
from rayrtc.silero import get_silero_model

TEXT = "Hello there. How are you? It is 3.5 degrees!"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    get_tts_model.cache_clear()
    yield
    get_tts_model.cache_clear()


async def test_espeak_speaks_sentence_by_sentence() -> None:
    model = get_tts_model("espeak")
    assert get_tts_model("espeak") is model
    rate, samples = model.tts(TEXT)
    assert rate == 22050
    assert samples.dtype == np.int16
    speech, _ = get_silero_model().vad((rate, samples), None)
    assert speech > 1.5, "it is not speech"
    pieces = list(model.stream_tts_sync(TEXT))
    assert len(pieces) == 3
    streamed = [piece async for piece in model.stream_tts(TEXT)]
    for (rate, piece), (other_rate, other) in zip(pieces, streamed, strict=True):
        assert rate == other_rate == 22050
        assert abs(piece.size - other.size) < 100
        assert np.abs(piece).max() > 3000
    assert list(model.stream_tts_sync("  ")) == []


def test_espeak_has_voices_and_speeds() -> None:
    model = get_tts_model("espeak")
    _, normal = model.tts(TEXT)
    _, slow = model.tts(TEXT, EspeakTTSOptions(speed=90))
    _, german = model.tts(TEXT, EspeakTTSOptions(voice="de+f2"))
    assert slow.size > 1.4 * normal.size
    assert german.size != normal.size
    _, again = model.tts(TEXT)
    assert abs(again.size - normal.size) < 100, "an option of one text stays for the next"
    with pytest.raises(ValueError, match="'nobody'"):
        model.tts(TEXT, EspeakTTSOptions(voice="nobody"))


class Kokoro:
    """What `kokoro-onnx` 0.6 has, as far as it is used."""

    def __init__(self, model_path: str, voices_path: str) -> None:
        self.paths = [model_path, voices_path]
        self.asked: list[Any] = []

    def create(self, text: str, voice: Any, speed: float, lang: str) -> Any:
        self.asked.append((text, voice, speed, lang))
        return np.full(240, len(text) / 100, np.float32), 24000

    async def create_stream(self, text: str, voice: Any, speed: float, lang: str) -> Any:
        for part in (text[:5], text[5:]):
            yield self.create(part, voice, speed, lang)


@pytest.fixture
def kokoro_package(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = SimpleNamespace(hf_hub_download=lambda repository, name: f"{repository}/{name}")
    monkeypatch.setitem(sys.modules, "kokoro_onnx", SimpleNamespace(Kokoro=Kokoro))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


@pytest.mark.usefixtures("kokoro_package")
async def test_kokoro_pauses_between_sentences() -> None:
    model = get_tts_model("kokoro", directory="/models")
    assert isinstance(model, KokoroTTSModel)
    assert model.model.paths == [
        str(Path("/models/kokoro-v1.0.onnx")),
        str(Path("/models/voices-v1.0.bin")),
    ]
    options = KokoroTTSOptions(voice="bf_emma", speed=1.2, lang="en-gb")
    assert model.tts("One. Two.", options)[0] == 24000
    assert model.model.asked == [("One. Two.", "bf_emma", 1.2, "en-gb")]
    pieces = list(model.stream_tts_sync("One. Two."))
    assert [rate for rate, _ in pieces] == [24000] * 3
    assert [piece.size for _, piece in pieces] == [240, 3429, 240]
    assert not pieces[1][1].any()
    streamed = [piece.size async for _, piece in model.stream_tts("A sentence. Another one.")]
    assert streamed == [240, 240, 3429, 240, 240]
    assert model.model.asked[-1][1:] == ("af_heart", 1.0, "en-us")


@pytest.mark.usefixtures("kokoro_package")
def test_kokoro_comes_from_the_hub() -> None:
    paths = KokoroTTSModel().model.paths
    assert paths == [f"fastrtc/kokoro-onnx/{n}" for n in ("kokoro-v1.0.onnx", "voices-v1.0.bin")]


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[dict[str, Any]]]:
    """Cartesia's service: two samples for each letter, cut where it hurts."""
    requests: list[dict[str, Any]] = []

    async def speak(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        requests.append({"headers": request.headers, **body})
        if request.headers["X-API-Key"] != "key":
            return web.Response(status=401)
        answer = web.StreamResponse()
        await answer.prepare(request)
        data = np.arange(2 * len(body["transcript"]), dtype="<i2").tobytes()
        for at in range(0, len(data), 7):
            await answer.write(data[at : at + 7])
        return answer

    app = web.Application()
    app.router.add_post("/tts/bytes", speak)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    monkeypatch.setattr(cartesia, "URL", f"http://{host}:{port}/tts/bytes")
    yield requests
    await runner.cleanup()


async def test_cartesia_is_asked_for_each_sentence(service: list[dict[str, Any]]) -> None:
    model = get_tts_model("cartesia", cartesia_api_key="key")
    options = CartesiaTTSOptions(language="de", sample_rate=8000)
    pieces = [piece async for piece in model.stream_tts("One. Two!", options)]
    assert {rate for rate, _ in pieces} == {8000}
    assert np.concatenate([samples for _, samples in pieces]).tolist() == [*range(8)] * 2
    first, second = service
    assert (first["transcript"], second["transcript"]) == ("One.", "Two!")
    assert (first["language"], first["model_id"]) == ("de", "sonic-2")
    assert first["headers"]["Cartesia-Version"] == "2024-06-10"
    assert first["voice"] == {"mode": "id", "id": options.voice}
    assert first["output_format"] == {
        "container": "raw",
        "encoding": "pcm_s16le",
        "sample_rate": 8000,
    }
    rate, samples = await asyncio.to_thread(model.tts, "One. Two!")
    assert (rate, samples.dtype, samples.size) == (22050, np.int16, 16)


async def test_cartesia_refuses(service: list[dict[str, Any]]) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        async for _ in CartesiaTTSModel("wrong").stream_tts("One."):
            pass


@pytest.mark.parametrize(
    ("model", "package", "extra"),
    [("kokoro", "kokoro_onnx", "tts"), ("espeak", "espeakng_loader", "espeak")],
)
def test_a_missing_package_is_named(
    model: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(espeak.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(espeak, "_library", espeak._Library())
    with pytest.raises(ImportError, match=rf"pip install rayrtc\[{extra}\]"):
        get_tts_model(model)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="'nonsense'"):
        get_tts_model("nonsense")  # type: ignore[arg-type]
