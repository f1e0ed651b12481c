"""A decoder that is slower than its frames must not fill the worker's memory, nor show the past."""

import asyncio
import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiortc.codecs import get_decoder
from av import FFmpegError

from rayrtc import AdditionalOutputs
from tests.workers.host import calling, hosting, until
from workers import decoding
from workers.decoding import MAX_BEHIND, decode, frames_skipped

VP8 = SimpleNamespace(name="VP8")


class Decoder:
    """Fails without a key frame, as a real one; frames are numbers, key frames divide by 100."""

    seconds = 0.0

    def __init__(self) -> None:
        self.has_key = False

    def decode(self, frame: int) -> list[int]:
        time.sleep(self.seconds)
        self.has_key = self.has_key or frame % 100 == 0
        if not self.has_key:
            raise FFmpegError(1, "no key frame")
        return [frame]


class Decoding:
    def __init__(self) -> None:
        self.encoded: queue.Queue[Any] = queue.Queue()
        self.decoded: asyncio.Queue[Any] = asyncio.Queue()
        self.key_frame_needed = threading.Event()
        arguments = (
            asyncio.get_running_loop(),
            self.encoded,
            self.decoded,
            self.key_frame_needed,
        )
        self.thread = threading.Thread(target=decode, args=arguments)

    def put(self, *frames: int) -> None:
        for frame in frames:
            self.encoded.put((VP8, frame))

    async def frames(self) -> list[Any]:
        """Everything decoded until the end."""
        self.encoded.put(None)
        found = []
        async with asyncio.timeout(10):
            while (frame := await self.decoded.get()) is not None:
                found.append(frame)
        self.thread.join()
        return found


@pytest.fixture(autouse=True)
def decoder(monkeypatch: pytest.MonkeyPatch) -> type[Decoder]:
    monkeypatch.setattr(decoding, "get_decoder", lambda codec: Decoder())
    monkeypatch.setattr(Decoder, "seconds", 0.0)
    return Decoder


async def test_frames_that_fit_are_all_decoded() -> None:
    job = Decoding()
    job.put(0, *range(1, MAX_BEHIND - 1))
    job.thread.start()
    assert await job.frames() == list(range(MAX_BEHIND - 1))
    assert not job.key_frame_needed.is_set()


async def test_a_decoder_that_is_behind_goes_on_with_the_next_key_frame() -> None:
    before = frames_skipped._value.get()
    job = Decoding()
    job.put(*range(2 * MAX_BEHIND))
    job.thread.start()
    await until(lambda: job.encoded.empty() and job.key_frame_needed.is_set())
    job.put(61, 62, 100, 101)
    assert await job.frames() == [100, 101]
    assert frames_skipped._value.get() == before + 2 * MAX_BEHIND


async def test_the_end_of_a_call_does_not_wait_for_frames_that_wait() -> None:
    """aiortc waits on the event loop for this thread."""
    Decoder.seconds = 0.01
    job = Decoding()
    job.put(*range(500))
    job.encoded.put(None)
    job.thread.start()
    assert await job.frames() == []


async def test_a_call_with_video_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc calls ours in place of its own."""
    made: list[str] = []

    def create(codec: Any) -> Any:
        made.append(codec.name)
        return get_decoder(codec)

    monkeypatch.setattr(decoding, "get_decoder", create)
    skipped = frames_skipped._value.get()

    def look(frame: Any) -> Any:
        return frame, AdditionalOutputs(list(frame.shape))

    async with hosting(look, modality="video") as host, calling(host, kinds=["video"]):
        await until(lambda: host.recorder.outputs)
    assert made == ["VP8"]
    assert frames_skipped._value.get() == skipped
