"""Frames of functions: coded where they were made when they are due, else when they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
import pytest

from workers.video import REPEAT_TIME, VideoOutput


def picture(side: int = 64) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="bgr24")


class Shown:
    """An output with a coder, and who reads from its queue."""

    def __init__(self, fps: float, **options: Any) -> None:
        self.output = VideoOutput(asyncio.get_running_loop(), fps, **options)
        self.coded: list[int] = []
        self.queued: list[int] = []
        self.output.on_due(lambda frame: self.coded.append(frame.pts or 0))

    async def read(self) -> None:
        while True:
            self.queued.append((await self.output.recv()).pts or 0)


@asynccontextmanager
async def showing(fps: float, **options: Any) -> AsyncIterator[Shown]:
    shown = Shown(fps, **options)
    reading = asyncio.create_task(shown.read())
    await asyncio.sleep(0)
    yield shown
    shown.output.stop()
    await asyncio.wait([reading])


async def test_frames_that_are_due_are_coded_where_they_were_made() -> None:
    async with showing(20, replace=True) as shown:
        for _ in range(4):
            await asyncio.to_thread(shown.output.show, picture())
            await asyncio.sleep(0.06)
    assert len(shown.coded) == 4
    assert not shown.queued
    assert all(1 / 0.2 < 90_000 / step < 1 / 0.05 for step in np.diff(np.array(shown.coded)))


async def test_one_that_comes_too_soon_waits_and_gives_way_to_the_next() -> None:
    async with showing(5, replace=True) as shown:
        for _ in range(3):
            await asyncio.to_thread(shown.output.show, picture())
        await asyncio.sleep(0.3)
    assert len(shown.coded) == len(shown.queued) == 1
    assert shown.queued[0] - shown.coded[0] == pytest.approx(90_000 / 5, abs=2000)


@pytest.mark.parametrize(("side", "replace"), [(1024, True), (64, False)])
async def test_large_frames_and_those_of_generators_are_coded_elsewhere(
    side: int, replace: bool
) -> None:
    async with showing(20, replace=replace) as shown:
        await asyncio.to_thread(shown.output.show, picture(side))
        await asyncio.sleep(0.1)
    assert not shown.coded
    assert len(shown.queued) == 1


async def test_what_stays_is_shown_again() -> None:
    async with showing(20, replace=True) as shown:
        await asyncio.to_thread(shown.output.show, picture())
        await asyncio.sleep(REPEAT_TIME / 2)
        await asyncio.to_thread(shown.output.show, picture())
        await asyncio.sleep(REPEAT_TIME * 0.8)
        assert not shown.queued
        await asyncio.sleep(REPEAT_TIME * 0.4)
    assert len(shown.queued) == 1
    assert shown.queued[0] > shown.coded[1]


async def test_nothing_is_coded_for_a_client_that_takes_none() -> None:
    async with showing(20, replace=True) as shown:
        shown.output.discard()
        await asyncio.to_thread(shown.output.show, picture())
    assert not shown.coded
    assert not shown.queued
