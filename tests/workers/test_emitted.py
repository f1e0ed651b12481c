"""What handlers may return from `emit`."""

import numpy as np
import pytest

from rayrtc import AdditionalOutputs, CloseStream
from workers.emitted import Emitted, EmittedAudio, split, split_audio_video, split_video

SAMPLES = np.zeros((1, 480), np.int16)
AUDIO = EmittedAudio(24000, SAMPLES)
OUTPUTS = AdditionalOutputs(1)
CLOSE = CloseStream("bye")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, Emitted()),
        ((24000, SAMPLES), Emitted(AUDIO)),
        ((24000, SAMPLES, "stereo"), Emitted(EmittedAudio(24000, SAMPLES, "stereo"))),
        (OUTPUTS, Emitted(outputs=OUTPUTS)),
        (CLOSE, Emitted(close=CLOSE)),
        (((24000, SAMPLES), OUTPUTS), Emitted(AUDIO, outputs=OUTPUTS)),
        (((24000, SAMPLES, "mono"), CLOSE), Emitted(AUDIO, close=CLOSE)),
        ((None, OUTPUTS), Emitted(outputs=OUTPUTS)),
    ],
)
def test_every_documented_form_is_taken_apart(result: object, expected: Emitted) -> None:
    assert split(result) == expected


@pytest.mark.parametrize("wrong", [7, "audio", SAMPLES, (), (1,), (1, 2, 3, 4), ((1, 2), 3)])
def test_anything_else_is_a_type_error_that_says_what_is_expected(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"expected|audio"):
        split(wrong)


FRAME = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, Emitted()),
        (FRAME, Emitted(frame=FRAME)),
        ((FRAME, OUTPUTS), Emitted(frame=FRAME, outputs=OUTPUTS)),
        ((FRAME, CLOSE), Emitted(frame=FRAME, close=CLOSE)),
        ((None, OUTPUTS), Emitted(outputs=OUTPUTS)),
        (OUTPUTS, Emitted(outputs=OUTPUTS)),
        (CLOSE, Emitted(close=CLOSE)),
    ],
)
def test_video_may_be_emitted_in_every_documented_form(result: object, expected: Emitted) -> None:
    emitted = split_video(result)
    assert emitted.frame is expected.frame
    assert emitted._replace(frame=None) == expected._replace(frame=None)
    together = split_audio_video(result)
    assert together.frame is expected.frame
    assert together._replace(frame=None) == expected._replace(frame=None)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ((24000, SAMPLES), Emitted(AUDIO)),
        (((24000, SAMPLES), OUTPUTS), Emitted(AUDIO, outputs=OUTPUTS)),
        ((FRAME, (24000, SAMPLES)), Emitted(AUDIO, FRAME)),
        ((None, (24000, SAMPLES)), Emitted(AUDIO)),
        (((FRAME, (24000, SAMPLES)), CLOSE), Emitted(AUDIO, FRAME, close=CLOSE)),
    ],
)
def test_a_generator_of_both_may_yield_sound_and_frames_together(
    result: object, expected: Emitted
) -> None:
    emitted = split_audio_video(result)
    assert emitted.frame is expected.frame
    assert emitted._replace(frame=None) == expected._replace(frame=None)


@pytest.mark.parametrize("wrong", [7, "frame", (24000, SAMPLES), (FRAME, FRAME), [FRAME]])
def test_what_is_no_frame_is_a_type_error_that_says_what_is_expected(wrong: object) -> None:
    with pytest.raises(TypeError, match="expected a frame"):
        split_video(wrong)
