"""The VP8 encoder, against FFmpeg's decoder."""

import av
import numpy as np
import pytest

from workers import vp8
from workers.video_encoders import MAX_BITRATE, MIN_BITRATE, PAYLOAD_BYTES, VP8, within
from workers.vp8 import VP8Encoder, VpxError


def picture(number: int, width: int = 320, height: int = 240) -> av.VideoFrame:
    """A pattern that moves."""
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin((columns + 5 * number) / 9) * np.cos((rows - 3 * number) / 11)
    luma = (128 + 60 * wave).astype(np.uint8)
    pixels = np.repeat(luma[:, :, None], 3, axis=2)
    frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format="yuv420p")
    frame.pts = number * vp8.CLOCK_RATE // 30
    return frame


def decoded(coded: list[bytes]) -> list[np.ndarray]:
    decoder = av.CodecContext.create("vp8", "r")
    frames = [frame for each in coded if each for frame in decoder.decode(av.Packet(each))]
    return [frame.to_ndarray(format="gray") for frame in frames]


def is_key(coded: bytes) -> bool:
    return not coded[0] & 1  # RFC 6386, 9.1


def bitrate(coded: list[bytes]) -> float:
    return sum(map(len, coded)) * 8 * 30 / len(coded)


@pytest.mark.parametrize("size", [(320, 240), (175, 143), (1296, 736), (8, 8)])
def test_pictures_of_any_size_come_back(size: tuple[int, int]) -> None:
    encoder = VP8Encoder(*size, 1_000_000)
    encoder.set_speed(vp8.SPEED)
    sent = [picture(number, *size) for number in range(10)]
    shown = decoded([encoder.encode(frame, key=False) for frame in sent])
    assert len(shown) == 10
    for frame, image in zip(sent[3:], shown[3:], strict=True):
        error = np.abs(frame.to_ndarray(format="gray").astype(int) - image).mean()
        assert error < 6


def test_key_frames_are_made_when_asked_for() -> None:
    encoder = VP8Encoder(320, 240, 1_000_000)
    coded = [encoder.encode(picture(number), key=number == 7) for number in range(12)]
    assert [is_key(each) for each in coded] == [number in (0, 7) for number in range(12)]


def test_the_bit_rate_changes_without_a_key_frame() -> None:
    encoder = VP8Encoder(320, 240, 600_000)
    coded: list[bytes] = []
    rates = []
    for target in (600_000, 150_000, 400_000):
        encoder.set_bitrate(target)
        part = [encoder.encode(picture(len(coded) + n), key=False) for n in range(90)]
        coded += part
        rates.append(bitrate(part[45:]) / target)
    assert all(0.5 < rate < 1.3 for rate in rates), rates
    assert not any(is_key(each) for each in coded[1:] if each)
    assert len(decoded(coded)) == sum(map(bool, coded))


def test_what_does_not_fit_the_bit_rate_is_left_out() -> None:
    """Sent all the same it would wait somewhere on the way, and all that follows behind it."""
    encoder = VP8Encoder(640, 480, 50_000)
    noise = np.random.default_rng(1)
    coded = []
    for number in range(60):
        pixels = noise.integers(0, 255, (480, 640, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format="yuv420p")
        frame.pts = number * 3000
        coded.append(encoder.encode(frame, key=False))
    assert coded.count(b"") > 30


@pytest.mark.parametrize("size", [(0, 0), (20_000, 20_000)])
def test_an_impossible_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(VpxError):
        VP8Encoder(*size, 500_000)


def test_a_library_with_other_structures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And FFmpeg's encoder takes over (`video_encoders.encoder_of`)."""
    lib = vp8.library()
    config = vp8._default_config(lib)
    config.width = 1
    monkeypatch.setattr(vp8, "_default_config", lambda lib: config)
    with pytest.raises(OSError, match="other structures"):
        vp8._check_structures(lib)


def test_payloads_fit_their_packets_and_begin_and_number_their_frame() -> None:
    """RFC 7741, 4.2."""
    encoder = VP8()
    pictures = []
    for number in range(20):
        payloads = encoder.encode(picture(number, 640, 480), False, 1_500_000, vp8.SPEED)
        assert all(len(payload) <= PAYLOAD_BYTES for payload in payloads)
        assert [payload[0] for payload in payloads] == [0x90] + [0x80] * (len(payloads) - 1)
        assert len({payload[:4][1:] for payload in payloads}) == 1
        pictures.append(int.from_bytes(payloads[0][2:4], "big") & 0x7FFF)
    assert [(at - pictures[0]) % 2**15 for at in pictures] == list(range(20))


def test_a_new_size_begins_with_a_key_frame() -> None:
    encoder = VP8()
    for number, size in enumerate([(320, 240), (160, 120), (320, 240)]):
        (payload, *_) = encoder.encode(picture(number, *size), False, 500_000, vp8.SPEED)
        assert is_key(payload[4:])


def test_the_bit_rate_is_kept_to_what_is_of_use() -> None:
    assert within(1, 640 * 480) == MIN_BITRATE
    assert within(700_000, 640 * 480) == 700_000
    assert within(30_000_000, 640 * 480) == MAX_BITRATE
    assert within(30_000_000, 1920 * 1080) == 3 * 1920 * 1080
