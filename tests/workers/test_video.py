"""Video handlers that are slow, that fail, that wait: who notices, and what is shown."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from rayrtc import (
    AdditionalOutputs,
    AsyncAudioVideoStreamHandler,
    CloseStream,
    VideoStreamHandler,
    WebRTCError,
    get_current_context,
)
from rayrtc.cluster.models import EndReason
from tests.clients import PictureTrack
from tests.workers.host import calling, handler_threads, hosting, until
from tests.workers.test_combinations import AsyncBoth, card, flip, is_flipped, set_input
from workers.video import MAX_AGE, REPEAT_TIME, VideoInput, VideoOutput


def video_frame(value: int = 0) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="bgr24")


async def test_a_function_that_needs_inputs_passes_frames_until_they_come() -> None:
    """And the first of them is not taken for the frame (FastRTC drops it)."""
    seen: list[Any] = []

    def paint(frame: Any, value: int, name: str) -> Any:
        seen.append((value, name))
        return np.full_like(frame, value)

    async with (
        hosting(paint, modality="video") as host,
        calling(host, kinds=["video"]) as (client, connection),
    ):
        pictures = await client.wait_for_pictures(5)
        assert all(picture[:, :100].mean() > 200 for picture in pictures)
        assert not seen
        set_input(connection, 1, 60, "a")
        await until(lambda: abs(client.pictures[-1].mean() - 60) < 8)
        set_input(connection, 2, 120, "b")
        await until(lambda: abs(client.pictures[-1].mean() - 120) < 8)
        assert seen[0] == (60, "a")
        assert seen[-1] == (120, "b")


@pytest.mark.parametrize("skip_frames", [False, True])
async def test_a_slow_function_shows_the_newest_frame(skip_frames: bool) -> None:
    """Defect 7: FastRTC was 144 frames behind after six seconds, with `skip_frames` too."""
    lags: list[int] = []
    seen = 0

    def slow(frame: Any) -> Any:
        nonlocal seen
        # the shades begin anew after some frames; no call comes that many after the one before
        seen += (PictureTrack.shade(frame) - seen) % PictureTrack.SHADES
        lags.append(client.picture.count - seen)
        time.sleep(0.3)
        return frame

    async with (
        hosting(VideoStreamHandler(slow, fps=15, skip_frames=skip_frames), modality="video") as h,
        calling(h, kinds=["video"]) as (client, _),
    ):
        await until(lambda: len(lags) > 10, timeout=10)
        # a frame is two on its way when it is new; a quarter of a second more are four
        assert min(lags[4:]) <= (3 if skip_frames else 5), lags


async def test_a_function_that_blocks_delays_nobody_and_runs_off_the_loop() -> None:
    """Defect 2: FastRTC calls video functions on the event loop of all connections."""
    threads: set[int] = set()
    release = threading.Event()

    def block(frame: Any) -> Any:
        threads.add(threading.get_ident())
        assert release.wait(100), "the test is never asked to go on"
        return frame

    async with hosting(block, modality="video") as host, hosting(flip, modality="video") as other:
        async with (
            calling(host, kinds=["video"]),
            calling(other, kinds=["video"]) as (client, _),
        ):
            await until(lambda: threads)
            await client.wait_for_pictures(len(client.pictures) + 20)
            assert len(threads) == 1
            release.set()
        assert threading.get_ident() not in threads
        assert len(threads) == 1
    await until(lambda: not handler_threads())


async def test_a_frame_that_fails_is_reported_and_the_next_is_handled() -> None:
    count = 0

    def shaky(frame: Any) -> Any:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise WebRTCError("I cannot look at this")
        return "no frame" if count % 3 == 1 else flip(frame)

    async with (
        hosting(shaky, modality="video") as host,
        calling(host, kinds=["video"]) as (client, connection),
    ):
        pictures = await client.wait_for_pictures(5)
        assert all(is_flipped(picture) for picture in pictures)
        texts = {m["data"] for m in client.messages if m["type"] == "error"}
        assert "I cannot look at this" in texts
        assert any("expected a frame" in text for text in texts)
        assert connection.state == "connected"


async def test_a_function_that_always_fails_ends_the_connection() -> None:
    """FastRTC ends the picture silently and keeps the connection."""

    def broken(frame: Any) -> Any:
        raise RuntimeError("broken")

    async with (
        hosting(broken, modality="video") as host,
        calling(host, kinds=["video"]) as (client, _),
    ):
        await until(lambda: host.reasons == [EndReason.HANDLER_ERROR])
        assert [m["data"] for m in client.messages if m["type"] == "error"] == ["broken"] * 10


async def test_a_generator_that_fails_ends_the_connection_with_its_error() -> None:
    def film() -> Iterator[Any]:
        yield card(0)
        raise RuntimeError("the film has torn")

    async with (
        hosting(film, modality="video", mode="receive") as host,
        calling(host, kinds=["video"], direction="recvonly") as (client, _),
    ):
        message = await client.wait_for_message("error")
        assert message["data"] == "the film has torn"
        await until(lambda: host.reasons == [EndReason.HANDLER_ERROR])


async def test_a_function_in_receive_mode_that_is_no_generator_is_told_so() -> None:
    async with (
        hosting(lambda: 7, modality="video", mode="receive") as host,
        calling(host, kinds=["video"], direction="recvonly") as (client, _),
    ):
        message = await client.wait_for_message("error")
        assert "must be a generator function" in message["data"]


async def test_a_generator_is_closed_when_its_client_leaves() -> None:
    closed = threading.Event()

    def film() -> Iterator[Any]:
        try:
            for count in range(100_000):
                yield card(count)
        finally:
            closed.set()

    async with hosting(film, modality="video", mode="receive") as host:
        async with calling(host, kinds=["video"], direction="recvonly") as (client, connection):
            await client.wait_for_pictures(3)
        await connection.task
        assert closed.is_set()
    await until(lambda: not handler_threads())


async def test_a_generator_whose_client_leaves_before_its_inputs_leaves_no_thread() -> None:
    def film(title: str) -> Iterator[Any]:
        yield card(0)

    async with hosting(film, modality="video", mode="receive") as host:
        async with calling(host, kinds=["video"], direction="recvonly") as (client, connection):
            await client.wait_for_message("send_input")
        await connection.task
    await until(lambda: not handler_threads())


async def test_a_function_may_yield_several_frames_for_one() -> None:
    def twice(frame: Any) -> Iterator[Any]:
        yield frame
        yield flip(frame), AdditionalOutputs(get_current_context().webrtc_id)

    async with (
        hosting(VideoStreamHandler(twice, fps=30), modality="video") as host,
        calling(host, kinds=["video"]) as (client, _),
    ):
        pictures = await client.wait_for_pictures(20)
        assert 7 <= sum(is_flipped(picture) for picture in pictures) <= 13
        assert client.webrtc_id in host.recorder.outputs[0][2]


async def test_close_stream_alone_ends_a_video_call() -> None:
    async with (
        hosting(lambda frame: CloseStream("enough"), modality="video") as host,
        calling(host, kinds=["video"]) as (client, _),
    ):
        assert (await client.wait_for_message("end_stream"))["data"] == "enough"
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])


async def test_a_handler_with_nothing_to_show_is_asked_50_times_a_second() -> None:
    """Defect 1: FastRTC asks an idle handler thousands of times a second."""

    class Idle(AsyncAudioVideoStreamHandler):
        asked = 0

        def copy(self) -> "Idle":
            return Idle()

        async def receive(self, frame: Any) -> None:
            pass

        async def emit(self) -> Any:
            return None

        async def video_receive(self, frame: Any) -> None:
            pass

        async def video_emit(self) -> Any:
            self.asked += 1
            return None

    async with (
        hosting(Idle(), modality="audio-video") as host,
        calling(host, kinds=["audio", "video"]) as (_, connection),
    ):
        handler: Any = connection._handler
        await asyncio.sleep(1)
        assert 10 < handler.asked < 80


async def test_frames_of_any_size_are_shown() -> None:
    """Odd ones too, and a size that changes during the call."""
    sizes = [(120, 160), (121, 161), (17, 33), (240, 320)]

    def film() -> Iterator[Any]:
        for height, width in sizes:
            for count in range(6):
                yield np.full((height, width, 3), 20 * count, np.uint8)

    async with (
        hosting(film, modality="video", mode="receive") as host,
        calling(host, kinds=["video"], direction="recvonly") as (client, _),
    ):
        await until(lambda: len({picture.shape for picture in client.pictures}) == len(sizes))


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        ([[0]], TypeError),
        (np.zeros((4, 4, 3), np.float32), TypeError),
        (np.zeros((4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (np.zeros((5000, 4, 3), np.uint8), ValueError),
    ],
)
async def test_what_is_no_frame_is_refused_with_a_reason(pixels: Any, error: type) -> None:
    with pytest.raises(error, match="a frame must"):
        VideoOutput(asyncio.get_running_loop(), 30).to_frame(pixels)


async def test_a_frame_waits_no_longer_than_the_limit_for_its_handler() -> None:
    waiting = VideoInput()
    for count in range(40):
        waiting._frames.put(video_frame(count))
    assert len(waiting._frames) == 16
    await asyncio.sleep(MAX_AGE + 0.05)
    waiting._frames.put(video_frame(200))
    pixels = waiting.get()
    assert pixels is not None
    assert abs(int(pixels.mean()) - 200) < 4


async def test_output_is_paced_and_stamped_by_its_rate() -> None:
    output = VideoOutput(asyncio.get_running_loop(), 50, ahead=4)
    for count in range(4):
        output._put(video_frame(count), True)
    begin = time.monotonic()
    stamps = [(await output.recv()).pts for _ in range(4)]
    assert time.monotonic() - begin > 0.05
    assert np.diff(np.array(stamps)).tolist() == [1800] * 3


async def test_a_picture_that_stays_is_repeated() -> None:
    """Else a client that lost its packets would never see it."""
    output = VideoOutput(asyncio.get_running_loop(), 50)
    output._put(video_frame(7), True)
    first = await output.recv()
    stamp = first.pts
    begin = time.monotonic()
    again = await asyncio.wait_for(output.recv(), 10)
    assert time.monotonic() - begin > REPEAT_TIME - 0.3
    assert again is first
    assert again.pts - stamp > 90_000 * (REPEAT_TIME - 0.3)


async def test_a_writer_waits_until_its_frames_are_shown_but_not_after_the_end() -> None:
    output = VideoOutput(asyncio.get_running_loop(), 10)
    frame = await asyncio.to_thread(output.to_frame, np.zeros((4, 4, 3), np.uint8))
    writing = asyncio.create_task(asyncio.to_thread(output.write_blocking, frame))
    await asyncio.sleep(0.1)
    assert not writing.done()
    output.stop()
    await asyncio.wait_for(writing, 1)


async def test_converting_for_an_async_handler_is_off_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[str] = set()

    def note(convert: Any) -> Any:
        def noting(*args: Any) -> Any:
            threads.add(threading.current_thread().name)
            return convert(*args)

        return noting

    monkeypatch.setattr(VideoInput, "to_array", note(VideoInput.to_array))
    monkeypatch.setattr(VideoOutput, "to_frame", note(VideoOutput.to_frame))
    async with (
        hosting(AsyncBoth(), modality="audio-video") as host,
        calling(host, kinds=["audio", "video"]) as (client, _),
    ):
        await client.wait_for_pictures(5)
    assert len(threads) == 1
    assert threading.current_thread().name not in threads
