"""Audio, video and both, in every mode: real aiortc clients over loopback."""

import asyncio
import itertools
import json
import queue
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from rayrtc import (
    AdditionalOutputs,
    AsyncAudioVideoStreamHandler,
    AudioVideoStreamHandler,
    CloseStream,
    StreamHandler,
)
from rayrtc.cluster.models import EndReason, InputEntry
from tests.clients import AiortcClient, PictureTrack
from tests.workers.host import calling, handler_threads, hosting, peak, until
from workers.connection import Connection

RATE = 24000


def flip(frame: Any) -> Any:
    """The white half comes to the right."""
    return frame[:, ::-1]


def is_flipped(picture: np.ndarray) -> bool:
    white, other = picture[:, 220:].mean(), picture[:, :100].mean()
    return bool(white > 200 and other < white - 25)


def sound(count: int, frequency: float = 880.0) -> tuple[int, np.ndarray]:
    """The `count`th 20 ms of a tone."""
    at = np.arange(count * RATE // 50, (count + 1) * RATE // 50) / RATE
    wave = (np.sin(2 * np.pi * frequency * at) * 12000).astype(np.int16)
    return RATE, wave.reshape(1, -1)


def card(count: int) -> np.ndarray:
    return np.full((240, 320, 3), count % 12 * 10, np.uint8)


def directions(client: AiortcClient) -> list[str]:
    """What the answer allows, as the client sees it."""
    return [str(transceiver.currentDirection) for transceiver in client.pc.getTransceivers()]


def set_input(connection: Connection, seq: int, *args: Any) -> None:
    connection.deliver(
        InputEntry(
            kind="input",
            connection_id=connection.id,
            session=connection.session,
            seq=seq,
            args=json.dumps(args),
        )
    )


class Both(AudioVideoStreamHandler):
    """Sends back what it gets, the picture mirrored; FastRTC's way with blocking queues."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=RATE, fps=15)
        self.heard: queue.Queue[Any] = queue.Queue()
        self.seen: queue.Queue[Any] = queue.Queue()
        self.shutdowns = 0

    def copy(self) -> "Both":
        return type(self)()

    def receive(self, frame: Any) -> None:
        self.heard.put(frame)

    def emit(self) -> Any:
        return self.heard.get()

    def video_receive(self, frame: Any) -> None:
        self.seen.put(frame)

    def video_emit(self) -> Any:
        return flip(self.seen.get())

    def shutdown(self) -> None:
        self.shutdowns += 1


class AsyncBoth(AsyncAudioVideoStreamHandler):
    """The same with coroutines."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=RATE, fps=15)
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.seen: asyncio.Queue[Any] = asyncio.Queue()
        self.shutdowns = 0

    def copy(self) -> "AsyncBoth":
        return type(self)()

    async def receive(self, frame: Any) -> None:
        self.heard.put_nowait(frame)

    async def emit(self) -> Any:
        return await self.heard.get()

    async def video_receive(self, frame: Any) -> None:
        self.seen.put_nowait(frame)

    async def video_emit(self) -> Any:
        return flip(await self.seen.get())

    async def shutdown(self) -> None:
        self.shutdowns += 1


async def test_video_send_receive() -> None:
    async with (
        hosting(flip, modality="video") as host,
        calling(host, kinds=["video"]) as (client, _),
    ):
        pictures = await client.wait_for_pictures(15)
        assert all(is_flipped(picture) for picture in pictures)
        shades = [PictureTrack.shade(picture[:, ::-1]) for picture in pictures]
        steps = [(b - a) % PictureTrack.SHADES for a, b in itertools.pairwise(shades)]
        # a loaded machine may skip some; none comes twice or late
        assert all(1 <= step <= PictureTrack.SHADES / 2 for step in steps), shades
        assert directions(client) == ["sendrecv"]


async def test_video_send() -> None:
    def look(frame: Any) -> Any:
        return frame, AdditionalOutputs(list(frame.shape))

    async with (
        hosting(look, modality="video", mode="send") as host,
        calling(host, kinds=["video"]) as (client, _),
    ):
        await until(lambda: len(host.recorder.outputs) >= 15)
        assert json.loads(host.recorder.outputs[0][2]) == [[240, 320, 3]]
        assert directions(client) == ["sendonly"]
        assert client.pictures == []


async def test_video_receive() -> None:
    """FastRTC starts it only after inputs; one that takes none needs none."""

    began: list[float] = []

    def film() -> Iterator[Any]:
        began.append(time.monotonic())
        for count in range(40):
            yield card(count)

    async with (
        hosting(film, modality="video", mode="receive") as host,
        calling(host, kinds=["video"], direction="recvonly") as (client, _),
    ):
        await client.wait_for_pictures(30)
        assert directions(client) == ["recvonly"]
        assert client.picture_arrivals[29] - began[0] > 29 / 30 * 0.95, "30 a second at most"
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])


async def test_audio_send() -> None:
    """What `emit` returns beside outputs is not sent, and does not block it."""

    class Meter(StreamHandler):
        def __init__(self) -> None:
            super().__init__()
            self.levels: queue.Queue[int] = queue.Queue()

        def copy(self) -> "Meter":
            return Meter()

        def receive(self, frame: Any) -> None:
            self.levels.put(int(np.abs(frame[1]).max()))

        def emit(self) -> Any:
            return sound(0), AdditionalOutputs(self.levels.get())

    async with (
        hosting(Meter(), mode="send") as host,
        calling(host) as (client, _),
    ):
        await until(lambda: len(host.recorder.outputs) >= 100)
        assert max(json.loads(encoded)[0] for *_, encoded in host.recorder.outputs) > 8000
        assert directions(client) == ["sendonly"]
        assert client.samples == []


async def test_audio_receive_after_inputs() -> None:
    def radio(frequency: float) -> Iterator[Any]:
        for count in range(1000):
            yield sound(count, frequency)

    async with (
        hosting(radio, mode="receive") as host,
        calling(host, direction="recvonly") as (client, connection),
    ):
        await client.wait_for_message("send_input")
        await asyncio.sleep(0.3)
        assert client.samples == []
        set_input(connection, 1, 660.0)
        await until(lambda: client.samples_since(1.2) > 48000)
        assert abs(peak(client) - 660) < 5


async def test_audio_receive_from_an_async_generator_that_is_closed_with_the_call() -> None:
    closed: list[bool] = []

    async def radio() -> AsyncIterator[Any]:
        try:
            for count in range(10_000):
                yield sound(count)
        finally:
            closed.append(True)

    async with hosting(radio, mode="receive") as host:
        async with calling(host, direction="recvonly") as (client, connection):
            await until(lambda: client.samples_since(1.2) > 48000)
            assert abs(peak(client) - 880) < 5
            assert not closed
        await connection.task
        assert closed == [True]


@pytest.mark.parametrize("handler", [Both, AsyncBoth])
async def test_audio_video_send_receive(handler: type) -> None:
    async with hosting(handler(), modality="audio-video") as host:
        async with calling(host, kinds=["audio", "video"]) as (client, connection):
            bound: Any = connection._handler
            pictures = await client.wait_for_pictures(15)
            assert all(is_flipped(picture) for picture in pictures)
            await until(lambda: client.samples_since(1.2) > 48000)
            assert abs(peak(client) - 440) < 5
            assert directions(client) == ["sendrecv", "sendrecv"]
        await connection.task
        assert bound.shutdowns == 1
    await until(lambda: not handler_threads())


@pytest.mark.parametrize("base", [Both, AsyncBoth])
async def test_audio_video_send(base: type) -> None:
    class Counting(base):  # type: ignore[misc]
        """Counts instead of sending back."""

    def count(self: Any, frame: Any) -> None:
        self.heard.put_nowait(AdditionalOutputs("heard"))

    def video_count(self: Any, frame: Any) -> None:
        self.seen.put_nowait((frame, AdditionalOutputs("seen")))

    async def acount(self: Any, frame: Any) -> None:
        count(self, frame)

    async def avideo_count(self: Any, frame: Any) -> None:
        video_count(self, frame)

    async def avideo_emit(self: Any) -> Any:
        return await self.seen.get()

    is_async = base is AsyncBoth
    Counting.receive = acount if is_async else count
    Counting.video_receive = avideo_count if is_async else video_count
    Counting.video_emit = avideo_emit if is_async else lambda self: self.seen.get()
    async with (
        hosting(Counting(), modality="audio-video", mode="send") as host,
        calling(host, kinds=["audio", "video"]) as (client, _),
    ):

        def reported(word: str) -> int:
            return [json.loads(encoded)[0] for *_, encoded in host.recorder.outputs].count(word)

        await until(lambda: reported("heard") > 50 and reported("seen") > 15)
        assert directions(client) == ["sendonly", "sendonly"]
        assert client.samples == client.pictures == []


def film(frequency: float) -> Iterator[Any]:
    """A frame with the sound that belongs to it: 25 frames a second of 40 ms."""
    for count in range(10_000):
        samples = np.concatenate([sound(2 * count + i, frequency)[1] for i in (0, 1)], axis=1)
        yield card(count), (RATE, samples)


async def async_film(frequency: float) -> AsyncIterator[Any]:
    for frame, audio in film(frequency):
        yield frame
        yield audio


@pytest.mark.parametrize("generator", [film, async_film])
async def test_audio_video_receive(generator: Any) -> None:
    async with (
        hosting(generator, modality="audio-video", mode="receive") as host,
        calling(host, kinds=["audio", "video"], direction="recvonly") as (client, connection),
    ):
        set_input(connection, 1, 660)
        await client.wait_for_pictures(25)
        await until(lambda: client.samples_since(1.2) > 48000)
        assert abs(peak(client) - 660) < 5
        assert directions(client) == ["recvonly", "recvonly"]


async def test_audio_video_receive_from_a_handler() -> None:
    began: list[float] = []

    class Player(AudioVideoStreamHandler):
        count = video_count = 0

        def copy(self) -> "Player":
            return Player()

        def receive(self, frame: Any) -> None:
            raise AssertionError("nothing is received but at the end")

        video_receive = receive

        def emit(self) -> Any:
            self.count += 1
            return sound(self.count)

        def video_emit(self) -> Any:
            began.append(time.monotonic())
            self.video_count += 1
            return card(self.video_count)

    async with (
        hosting(Player(), modality="audio-video", mode="receive") as host,
        calling(host, kinds=["audio", "video"], direction="recvonly") as (client, _),
    ):
        await client.wait_for_pictures(30)
        await until(lambda: client.samples_since(1.2) > 48000)
        assert abs(peak(client) - 880) < 5
        assert client.picture_arrivals[29] - began[0] > 29 / 30 * 0.95, "30 a second at most"


async def test_a_client_that_only_listens_to_a_call_both_ways_gets_its_answer() -> None:
    async with (
        hosting(Both(), modality="audio-video") as host,
        calling(host, kinds=["audio", "video"], direction="recvonly") as (client, connection),
    ):
        assert directions(client) == ["recvonly", "recvonly"]
        assert connection.state == "connected"


async def test_a_client_that_sends_only_holds_up_no_handler() -> None:
    """What the handler emits has nowhere to go; `emit` must not wait for it to be played."""

    def look(frame: Any) -> Any:
        return frame, AdditionalOutputs(1)

    async with (
        hosting(look, modality="video") as host,
        calling(host, kinds=["video"], direction="sendonly") as (client, _),
    ):
        await until(lambda: len(host.recorder.outputs) >= 20)
        assert directions(client) == ["sendonly"]


async def test_close_stream_with_the_last_frame() -> None:
    def film() -> Iterator[Any]:
        for count in range(10):
            yield card(count)
        yield card(10), CloseStream("The end")

    async with (
        hosting(film, modality="video", mode="receive") as host,
        calling(host, kinds=["video"], direction="recvonly") as (client, _),
    ):
        message = await client.wait_for_message("end_stream")
        assert message["data"] == "The end"
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])
        # aiortc gives out a frame when the next one begins, so it never shows the very last
        assert abs(client.pictures[-1].mean() - 90) < 8
