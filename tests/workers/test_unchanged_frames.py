"""Frames that a function returns as it got them are not converted there and back."""

from typing import Any

import av
import numpy as np
import pytest

from rayrtc import AdditionalOutputs
from tests.workers.host import calling, hosting, until
from workers.video import VideoInput, VideoOutput


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arrays that were converted to be shown."""
    seen: list[Any] = []
    convert = VideoOutput.to_frame

    def to_frame(self: VideoOutput, pixels: Any) -> Any:
        seen.append(pixels)
        return convert(self, pixels)

    monkeypatch.setattr(VideoOutput, "to_frame", to_frame)
    return seen


async def test_a_frame_that_was_looked_at_is_not_converted(converted: list[Any]) -> None:
    def look(frame: Any) -> Any:
        return frame, AdditionalOutputs(float(frame.mean()))

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        pictures = await c.wait_for_pictures(10)
        await until(lambda: host.recorder.outputs)
    assert all(picture[:, :140].mean() > 240 for picture in pictures)
    assert not converted


async def test_a_frame_that_was_drawn_on_is_shown_so(converted: list[Any]) -> None:
    def draw(frame: Any) -> Any:
        frame[:, :160] = 40
        return frame

    async with hosting(draw, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        pictures = await c.wait_for_pictures(10)
    assert all(abs(picture[:, :140].mean() - 40) < 10 for picture in pictures)
    assert converted


@pytest.mark.parametrize("size", [(640, 480), (175, 143), (36, 22)])
def test_a_handler_may_draw_on_what_it_gets(size: tuple[int, int]) -> None:
    source = VideoInput()
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format="yuv420p")
    got = source.to_array(frame)
    assert got.shape == pixels.shape
    assert got.flags.c_contiguous
    assert source.shows(frame, got)
    got[5, 7, 2] ^= 1
    assert not source.shows(frame, got)
    again = source.to_array(frame)
    assert source.shows(frame, again)
    assert got[5, 7, 2] != again[5, 7, 2]
