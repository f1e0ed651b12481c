"""Voice detection: what is missed here is never answered, what is invented interrupts."""

import numpy as np
import pytest

from capacity.conversation import conversation
from rayrtc import SileroVadOptions, audio_to_float32, get_silero_model
from rayrtc.rate_converter import RateConverter
from rayrtc.reply_on_pause import INTERRUPTION
from rayrtc.silero import SileroStream, SileroVADModel
from rayrtc.voice_detection import WINDOW, speech_chunks
from tests.speech import UTTERANCES, noise, not_speech, recording, tone

RATES = [8000, 16000, 24000, 44100, 48000]


def silence(seconds: float, rate: int = 48000) -> np.ndarray:
    return noise(seconds, rate, 0.0003)


def hear(stream: SileroStream, samples: np.ndarray, rate: int = 48000) -> float:
    """Let the stream hear frames of 20 ms; the longest speech it heard, in seconds."""
    longest = 0.0
    for at in range(0, len(samples), rate // 50):
        stream.hear((rate, samples[at : at + rate // 50]))
        longest = max(longest, stream.speaking_for)
    return longest


@pytest.mark.parametrize("rate", RATES)
def test_conversion_of_frames_is_that_of_the_whole(rate: int) -> None:
    samples = tone(1.0, 440.0, rate).astype(np.float32)
    converter = RateConverter(rate, 16000)
    parts = [converter.convert(samples[at : at + 333]) for at in range(0, len(samples), 333)]
    converted = np.concatenate(parts)
    expected = tone(1.0, 440.0, 16000)[: len(converted)]
    assert len(converted) > 15900
    assert np.abs(converted[200:] - expected[200:]).max() < 30


def test_conversion_has_no_aliases() -> None:
    converted = RateConverter(48000, 16000).convert(tone(1.0, 10_000.0).astype(np.float32))
    assert np.abs(converted[100:]).max() < 30


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", UTTERANCES)
def test_recorded_speech_is_found(name: str, rate: int) -> None:
    samples = np.concatenate((silence(1.0, rate), recording(name, rate), silence(2.5, rate)))
    options = SileroVadOptions(speech_pad_ms=0, min_silence_duration_ms=600)
    seconds, (chunk,) = get_silero_model().vad((rate, samples.reshape(1, -1)), options)
    spoken = len(recording(name, rate)) / rate
    assert seconds == pytest.approx(spoken, abs=0.3)
    assert chunk["start"] / 16000 == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    "sound", [noise(3.0), noise(3.0, level=0.3), tone(3.0), tone(3.0, 200.0), silence(3.0)]
)
def test_noise_and_tones_are_no_speech(sound: np.ndarray) -> None:
    assert get_silero_model().vad((48000, sound), None) == (0.0, [])
    stream = get_silero_model().stream(None)
    assert hear(stream, sound) < 0.1
    stream.close()


@pytest.mark.parametrize("name", not_speech())
def test_a_sound_out_of_silence_is_no_speech(name: str) -> None:
    """The model takes the first third of a second of some tones for speech."""
    for before in (0.0, 0.1, 0.25, 0.4, 0.55):  # where in a chunk it begins
        room = noise(0.6 + before, level=0.001)  # loud enough that the model is asked
        samples = np.concatenate((room, not_speech()[name], room))
        stream = get_silero_model().stream(None)
        for at in range(0, len(samples), 28800):
            assert hear(stream, samples[at : at + 28800]) < 0.1
            assert stream.vad((48000, samples[at : at + 28800]), None) == (0.0, [])
        stream.close()


def test_every_utterance_is_noticed_at_once() -> None:
    """An interruption waits for 0.12 s of speech; here until it has been seen."""
    for spoken in conversation():
        stream = get_silero_model().stream(None)
        hear(stream, noise(0.5, level=0.001))
        assert hear(stream, spoken[: round(0.25 * 48000)]) >= INTERRUPTION
        stream.close()


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_connection_keeps_its_state(rate: int) -> None:
    """Defect 11: FastRTC begins anew with every chunk and scores its first windows blindly."""
    model = SileroVADModel()
    parts = (tone(0.5, 300, rate), recording("story", rate), tone(0.5, 300, rate))
    samples = np.concatenate(parts) + noise(3.0, rate, 0.003)[: sum(map(len, parts))]
    converted = RateConverter(rate, 16000).convert(audio_to_float32(samples))

    def scored(chunk: int) -> list[float]:
        scores = []
        for first in range(0, len(converted) - WINDOW, chunk * WINDOW):
            detector = model.take()
            for at in range(first, first + chunk * WINDOW, WINDOW):
                if at + WINDOW <= len(converted):
                    scores.append(detector.process(converted[at : at + WINDOW].copy().data))
            model.give_back(detector)
        return scores

    stream = model.stream(None)
    chunk = rate * 6 // 10
    for at in range(0, len(samples), chunk):
        hear(stream, samples[at : at + chunk], rate)
        stream.vad((rate, samples[at : at + chunk]), None)
    scores = [score for _, score in stream._scores]
    assert scores == pytest.approx(scored(1000)[: len(scores)], abs=1e-3)
    assert np.abs(np.subtract(scores, scored(18)[: len(scores)])).max() > 0.3


def test_a_click_is_no_speech() -> None:
    """A short burst early in a chunk is followed by a silence too short to end speech."""
    stream = get_silero_model().stream(None)
    word = recording("story")[4800:12000]  # 0.15 s out of a word
    samples = np.concatenate((silence(0.1), word, silence(0.95)))
    heard = []
    for at in range(0, len(samples), 28800):
        hear(stream, samples[at : at + 28800])
        heard.append(stream.vad((48000, samples[at : at + 28800]), None))
    stream.close()
    assert heard == [(0.0, [])] * 2


def test_connections_do_not_hear_each_other() -> None:
    model = SileroVADModel()
    one, other = model.stream(None), model.stream(None)
    spoken = recording("weather")
    longest = 0.0
    for at in range(0, len(spoken), 960):
        one.hear((48000, spoken[at : at + 960]))
        other.hear((48000, noise(0.02)))
        longest = max(longest, one.speaking_for)
        assert other.speaking_for < 0.1
    assert longest > 0.3
    one.close()
    following = model.stream(None)
    assert len(model._idle) == 0, "a detector is used again"
    assert hear(following, silence(0.5)) == 0


def test_silence_costs_no_run_of_the_model() -> None:
    class Counting(SileroVADModel):
        runs = 0

        def process(self, data: memoryview) -> float:
            self.runs += 1
            return 0.0

        def reset(self) -> None:
            pass

        def take(self) -> "Counting":
            return self

    model = Counting()
    stream = model.stream(None)
    hear(stream, silence(3.0))
    assert model.runs == 0
    hear(stream, tone(1.0))
    assert model.runs == pytest.approx(31, abs=2)


def chunks(text: str, **options: int | float) -> list[tuple[int, int]]:
    """The speech in a text with a sign for each window: `#` speech, `-` between, `.` silence."""
    scores = [{"#": 0.9, "-": 0.4, ".": 0.1}[sign] for sign in text]
    chosen = {"min_speech_duration_ms": 0, "min_silence_duration_ms": 64, "speech_pad_ms": 0}
    found = speech_chunks(scores, len(scores) * WINDOW, SileroVadOptions(**{**chosen, **options}))
    return [(chunk["start"] // WINDOW, chunk["end"] // WINDOW) for chunk in found]


def test_scores_become_speech() -> None:
    assert chunks("..###....##...") == [(2, 5), (9, 11)]
    assert chunks("..##-.-##") == [(2, 9)], "a silence too short to end it"
    assert chunks("..##-") == [(2, 5)], "between speech and silence it goes on"
    assert chunks("--..") == []
    assert chunks("#...####...", min_speech_duration_ms=64) == [(4, 8)]
    assert chunks("..##....##....", speech_pad_ms=32) == [(1, 5), (7, 11)]
    assert chunks(".##....##...", speech_pad_ms=320) == [(0, 5), (5, 12)], "half the gap"
    assert chunks("#" * 10, max_speech_duration_s=0.16) == [(0, 5), (5, 10)]
    split = chunks("####.....####...", max_speech_duration_s=0.32, min_silence_duration_ms=2000)
    assert split[0] == (0, 4), "split at the silence"
