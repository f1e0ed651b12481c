"""libopus as it is called here."""

from typing import Any

import numpy as np
import pytest

from rayrtc.opus import OpusOptions
from tests.e2e.spectrum import peak
from workers.opus import RATES, OpusDecoder, OpusEncoder, OpusError


def tone(rate: int, seconds: float = 1.0, channels: int = 1, pitch: float = 440) -> np.ndarray:
    wave = np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate) * 8000
    return np.repeat(wave.astype(np.int16), channels)


def packets(rate: int, channels: int, options: OpusOptions, sound: np.ndarray) -> list[bytes]:
    encoder = OpusEncoder(rate, channels, options)
    size = rate // 50 * channels
    return [encoder.encode(sound[i : i + size].tobytes()) for i in range(0, len(sound), size)]


@pytest.mark.parametrize("sent", RATES)
@pytest.mark.parametrize("received", RATES)
@pytest.mark.parametrize(("coded", "given"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_tone_comes_through(sent: int, received: int, coded: int, given: int) -> None:
    decoder = OpusDecoder(received, given)
    heard = [
        decoder.decode(packet)
        for packet in packets(sent, coded, OpusOptions(), tone(sent, channels=coded))
    ]
    assert {samples.size for samples in heard} == {received // 50 * given}
    sound = np.concatenate(heard)[::given][received // 5 :]
    assert peak(sound, received) == pytest.approx(440, abs=3)
    assert 6000 < np.abs(sound).max() < 11000


def test_the_bitrate_is_kept() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 48000).astype(np.int16)
    for bitrate in (16_000, 64_000):
        coded = packets(48000, 1, OpusOptions(bitrate=bitrate), noise)
        assert sum(map(len, coded)) * 8 == pytest.approx(bitrate, rel=0.15)


def test_silence_costs_next_to_nothing_with_dtx() -> None:
    options = OpusOptions(dtx=True, application="voip")
    coded = packets(16000, 1, options, np.zeros(16000, np.int16))
    assert sum(len(packet) <= 2 for packet in coded) > 20


def test_a_lost_packet_is_concealed() -> None:
    coded = packets(24000, 1, OpusOptions(), tone(24000))
    decoder = OpusDecoder(24000, 1)
    for packet in coded[:20]:
        last = decoder.decode(packet)
    guessed = decoder.conceal(480)
    assert guessed.size == 480
    assert np.abs(guessed).max() > np.abs(last).max() / 2


def test_what_a_decoder_gave_is_the_callers_own() -> None:
    coded = packets(24000, 1, OpusOptions(), tone(24000))
    decoder = OpusDecoder(24000, 1)
    first = decoder.decode(coded[10])
    kept = first.copy()
    decoder.decode(coded[11])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("packet", [b"", b"\xff\xff\xff", b"\x03\xff" * 40])
def test_what_is_no_packet_is_refused_and_the_next_one_is_heard(packet: bytes) -> None:
    coded = packets(24000, 1, OpusOptions(), tone(24000))
    decoder = OpusDecoder(24000, 1)
    with pytest.raises(OpusError):
        decoder.decode(packet)
    assert decoder.decode(coded[0]).size == 480


def test_what_is_no_frame_is_refused() -> None:
    encoder = OpusEncoder(24000, 1, OpusOptions())
    with pytest.raises(OpusError, match="no frame"):
        encoder.encode(bytes(100))


@pytest.mark.parametrize(
    "changes",
    [
        {"bitrate": 5_999},
        {"bitrate": 510_001},
        {"complexity": 11},
        {"complexity": -1},
        {"application": "music"},
        {"fec": True},
        {"dtx": True},
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        OpusOptions(**changes)


def test_a_lost_packet_is_recovered_from_the_next() -> None:
    rate, frame = 16000, 320
    rng = np.random.default_rng(1)
    voice = sum(tone(rate, 1.0, pitch=150 * n).astype(float) / n for n in range(1, 12)) / 3
    loud = np.repeat(rng.uniform(0.1, 1.0, 25), rate // 25)  # a syllable each 40 ms
    coded = packets(
        rate,
        1,
        OpusOptions(application="voip", bitrate=24_000, fec=True),
        (voice * loud).astype(np.int16),
    )
    errors = []
    for repeats in (True, False):
        whole, holed = OpusDecoder(rate, 1), OpusDecoder(rate, 1)
        error = 0.0
        for number, packet in enumerate(coded[:-1]):
            expected = whole.decode(packet).astype(float)
            if number % 5 == 4:
                heard = holed.conceal(frame, coded[number + 1] if repeats else b"")
            else:
                heard = holed.decode(packet)
            error += float(np.square(heard - expected).sum())
        errors.append(error)
    assert errors[0] < 0.7 * errors[1]
