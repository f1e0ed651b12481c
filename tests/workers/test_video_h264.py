"""Calls whose client has no other codec than H.264."""

import itertools
from typing import Any

import aiortc.codecs
import av
import numpy as np
import pytest

from tests.clients import PictureTrack
from tests.workers.host import calling, hosting, until
from tests.workers.test_combinations import flip, is_flipped
from tests.workers.test_video_path import PLI, ends, lose_for_good
from workers.vp8 import CLOCK_RATE


@pytest.fixture(autouse=True)
def h264_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    codecs = aiortc.codecs.CODECS
    others = {c.payloadType for c in codecs["video"] if c.name == "VP8"}
    left = [
        codec
        for codec in codecs["video"]
        if codec.payloadType not in others and codec.parameters.get("apt") not in others
    ]
    monkeypatch.setitem(codecs, "video", left)


async def test_pictures_come_back_with_the_times_at_which_they_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hosting(flip, modality="video") as host, calling(host, kinds=["video"]) as (c, cn):
        pictures = await c.wait_for_pictures(10)
        assert all(is_flipped(picture) for picture in pictures[-3:])
        sender, _ = ends(cn)
        sent: list[tuple[float, int]] = []
        send = sender._send

        def keep(payloads: list[bytes], timestamp: int) -> None:
            sent.append((sender._loop.time(), timestamp))
            send(payloads, timestamp)

        monkeypatch.setattr(sender, "_send", keep)
        await until(lambda: len(sent) > 15)
    (first, begin), (last, end) = sent[0], sent[-1]
    seconds = (end - begin) % 2**32 / CLOCK_RATE
    assert abs(seconds - (last - first)) < 0.3


async def test_after_a_hole_a_key_frame_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[Any] = []

    def look(frame: Any) -> Any:
        frames.append(frame)
        return frame

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        await until(lambda: len(frames) > 5)
        asked = await lose_for_good(c, host, monkeypatch, packets=1)
        before = len(frames)
        await until(lambda: len(frames) > before + 10)
        assert asked[PLI] >= 1
        shades = [PictureTrack.shade(frame) for frame in frames[before + 3 :]]
        steps = {(b - a) % PictureTrack.SHADES for a, b in itertools.pairwise(shades)}
        assert steps == {1}


@pytest.mark.parametrize("size", [(175, 143), (176, 143)])
async def test_pictures_with_odd_sides_are_shown(size: tuple[int, int]) -> None:
    def cut(frame: Any) -> Any:
        return np.ascontiguousarray(frame[: size[1], : size[0]])

    async with hosting(cut, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        pictures = await c.wait_for_pictures(3)
    assert pictures[-1].shape == (142, size[0] & ~1, 3)
    assert pictures[-1][:, :140].mean() > 240


async def test_a_larger_picture_than_allowed_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[av.VideoFrame] = []

    def look(frame: Any) -> Any:
        seen.append(frame)
        return frame

    monkeypatch.setattr("workers.video_receiver.MAX_PIXELS", 100 * 100)
    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]) as (c, _):
        await until(lambda: c.picture.count > 30)
    assert not seen
