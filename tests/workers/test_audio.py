"""Audio on its way to and from a handler: clicks, lag and endless queues start here."""

import asyncio
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from tests.workers.host import until
from workers import audio, playback
from workers.audio import AudioInput, AudioOutput
from workers.playback import OUTPUT_SECONDS, to_frame
from workers.resampler import Resampler


def tone(rate: int, seconds: float, frequency: float = 440.0) -> np.ndarray:
    at = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * np.pi * frequency * at)


def int16(wave: np.ndarray) -> np.ndarray:
    return (wave * 12000).astype(np.int16)


class Remote(MediaStreamTrack):
    """Stands for the client's track: 48 kHz stereo, as Opus decodes, as fast as it is taken."""

    kind = "audio"

    def __init__(self, wave: np.ndarray, samples: int = 960, rate: int = 48000) -> None:
        super().__init__()
        self.frames = [wave[i : i + samples] for i in range(0, len(wave), samples)]
        self.rate = rate

    async def recv(self) -> av.AudioFrame:
        if not self.frames:
            raise MediaStreamError
        stereo = np.repeat(int16(self.frames.pop(0)), 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
        frame.sample_rate = self.rate
        frame.time_base = Fraction(1, self.rate)
        return frame


async def heard(source: AudioInput, wave: np.ndarray, **options: Any) -> list[np.ndarray]:
    await source.pump(Remote(wave, **options))
    waiting = [source.get() for _ in range(len(source._frames))]
    return [frame[1] for frame in waiting if frame is not None]


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("ptime", [480, 960, 2880])
async def test_handlers_get_20_ms_frames_without_clicks(rate: int, ptime: int) -> None:
    """Defect 12, on the way in: FastRTC converts each chunk by itself."""
    frames = await heard(AudioInput(rate, "mono"), tone(48000, 0.6), samples=ptime)
    assert {frame.shape for frame in frames} == {(1, rate // 50)}
    assert {frame.dtype for frame in frames} == {np.dtype(np.int16)}
    samples = np.concatenate(frames, axis=1)[0][rate // 50 :].astype(float)
    steepest = 12000 * 2 * np.pi * 440 / rate
    assert np.abs(np.diff(samples)).max() < steepest * 1.1


def beside(samples: np.ndarray, rate: int, frequency: float = 440.0) -> float:
    """Power that does not belong to the tone, as part of the tone's."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = abs(np.fft.rfftfreq(len(samples), 1 / rate) - frequency) < 20
    return float(power[~near].sum() / power[near].sum())


@pytest.mark.parametrize(("emitted", "played"), [(24000, 8000), (24000, 48000), (16000, 24000)])
async def test_what_a_handler_emits_in_chunks_is_played_without_clicks(
    emitted: int, played: int
) -> None:
    """Defect 12: FastRTC converts each chunk by itself; the same measure finds that out."""
    wave = int16(tone(emitted, 1.0))
    chunks = np.split(wave, range(333, len(wave), 333))
    output = playback.Playback(asyncio.get_running_loop(), played, "mono", lead=10.0)
    heard = b""
    for chunk in chunks:
        await output.write(emitted, chunk, "mono")
        while output.buffered > 0.1:
            heard += await output.next() or b""
    output.stop()
    assert len(heard) > 1.6 * played
    assert beside(np.frombuffer(heard, np.int16)[200:], played) < 1e-5

    apart = [
        part.to_ndarray()[0]
        for chunk in chunks
        if (frame := to_frame(emitted, chunk, "mono")) is not None
        for part in Resampler("s16", "mono", played).resample(frame)
    ]
    assert beside(np.concatenate(apart)[200:], played) > 1e-4


async def test_stereo_is_interleaved() -> None:
    frames = await heard(AudioInput(48000, "stereo"), tone(48000, 0.1))
    assert {frame.shape for frame in frames} == {(1, 1920)}


async def test_a_change_of_the_clients_codec_is_survived() -> None:
    source = AudioInput(16000, "mono")
    await source.pump(Remote(tone(48000, 0.1)))
    await source.pump(Remote(tone(8000, 0.1), samples=160, rate=8000))
    assert len(source._frames) == 8  # of 10; each resampler keeps less than a frame


async def test_a_slow_handler_loses_the_oldest_audio_and_lags_at_most_a_second() -> None:
    before = audio.frames_dropped._value.get()
    frames = await heard(AudioInput(48000, "mono"), tone(48000, 3.0))
    assert len(frames) == 50
    assert audio.frames_dropped._value.get() - before >= 98


async def test_close_ends_the_waiting_of_threads_and_tasks() -> None:
    source = AudioInput(48000, "mono")
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(source.get()))
    thread.start()
    task = asyncio.create_task(source.next())
    await asyncio.sleep(0.05)
    source.close()
    assert await asyncio.wait_for(task, 1) is None
    await asyncio.to_thread(thread.join, 1)
    assert got == [None]


FORMS: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("int16 (n,)", int16, "mono"),
    ("int16 (1, n)", lambda wave: int16(wave).reshape(1, -1), "mono"),
    ("float32 (1, n)", lambda wave: (wave * 0.4).astype(np.float32).reshape(1, -1), "mono"),
    ("float64 (n,)", lambda wave: wave * 0.4, "mono"),
    ("int16 stereo (1, 2n)", lambda wave: np.repeat(int16(wave), 2).reshape(1, -1), "stereo"),
    ("int16 stereo (2, n)", lambda wave: np.stack([int16(wave)] * 2), "stereo"),
    ("a slice that is not contiguous", lambda wave: np.repeat(int16(wave), 2)[::2], "mono"),
]


@pytest.mark.parametrize(("_name", "form", "layout"), FORMS, ids=[form[0] for form in FORMS])
async def test_every_form_of_emitted_audio_is_played_as_it_is(
    _name: str, form: Callable[[np.ndarray], np.ndarray], layout: Any
) -> None:
    output = AudioOutput(asyncio.get_running_loop())
    wave = tone(24000, 0.2)
    for part in np.split(wave, 10):
        await output.write(24000, form(part), layout)
    frames = []
    for _ in range(9):
        frames.append((await output.recv()).to_ndarray()[0])
        output._due = None  # at the pace of the test machine
    played = np.concatenate(frames[1:])
    left, right = played[::2].astype(float), played[1::2].astype(float)
    assert np.array_equal(left, right)
    assert np.abs(np.diff(left)).max() < 13200 * 2 * np.pi * 440 / 48000 * 1.1
    assert 11000 < np.abs(left).max() < 13500
    output.stop()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((24000, [1, 2], "mono"), TypeError),
        ((24000.0, np.zeros(4, np.int16), "mono"), TypeError),
        ((24000, np.zeros(4, np.int32), "mono"), TypeError),
        ((0, np.zeros(4, np.int16), "mono"), ValueError),
        ((24000, np.zeros((2, 4), np.int16), "mono"), ValueError),
        ((24000, np.zeros(3, np.int16), "stereo"), ValueError),
        ((24000, np.zeros(4, np.int16), "5.1"), ValueError),
    ],
)
def test_what_is_no_audio_is_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_frame(*arguments)


def test_floats_that_are_no_numbers_become_silence() -> None:
    frame = to_frame(24000, np.array([np.nan, 0.5], np.float32), "mono")
    assert frame is not None
    assert frame.to_ndarray()[0].tolist() == [0.0, 0.5]


async def test_playback_keeps_the_pace_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "_LATE", 1.0)  # a loaded test machine is no slow handler
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 0.5)), "mono"))
    begin = time.monotonic()
    frames = [await output.recv() for _ in range(25)]
    assert time.monotonic() - begin > 0.45
    assert [frame.pts for frame in frames] == [i * 960 for i in range(25)]
    await writing
    output.stop()


async def test_timestamps_jump_over_silence_in_which_nothing_is_sent() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    first = await output.recv()
    next_frame = asyncio.create_task(output.recv())
    await asyncio.sleep(0.5)
    assert not next_frame.done()
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    second = await next_frame
    assert first.pts == 0
    assert second.to_ndarray().any()
    assert second.pts / 48000 == pytest.approx(0.5, abs=0.05)
    output.stop()


async def test_a_writer_waits_when_enough_is_buffered() -> None:
    """Else a handler that is faster than speech would fill the memory."""
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 1.0)), "mono"))
    thread_done = threading.Event()

    def write() -> None:
        output.write_blocking(48000, int16(tone(48000, 1.0)), "mono")
        thread_done.set()

    threading.Thread(target=write, daemon=True).start()
    await asyncio.sleep(0.1)
    assert not writing.done()
    assert not thread_done.is_set()
    while output.buffered > OUTPUT_SECONDS / 2:
        await output.recv()
        output._due = None  # no need to wait for the clock here
    await asyncio.wait_for(writing, 1)
    await until(thread_done.is_set)
    output.stop()


async def test_clear_drops_what_is_queued_and_frees_the_writer() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 5.0)), "mono"))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(output.clear)
    await asyncio.wait_for(writing, 1)
    assert output.buffered == 0
    output.stop()


async def test_a_clear_is_followed_by_silence_that_is_sent() -> None:
    """Else a browser goes on with the last sound, as it does for a packet that was lost."""
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 5.0)), "mono"))
    sound = await output.recv()
    output.clear()
    assert output.playing, "a frame is on its way"
    await writing
    hush = [await output.recv() for _ in range(audio.HUSH_FRAMES)]
    assert not output.playing
    assert sound.to_ndarray().any()
    assert not any(frame.to_ndarray().any() for frame in hush)
    assert [frame.pts - sound.pts for frame in hush] == [960 * n for n in range(1, 6)]
    following = asyncio.create_task(output.recv())
    await asyncio.sleep(0.1)
    assert not following.done(), "then nothing is sent"
    output.clear()
    await asyncio.sleep(0.05)
    assert not following.done(), "and nothing for a `clear` of nothing"
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    assert (await following).to_ndarray().any()
    output.stop()


async def test_what_is_said_after_a_clear_does_not_wait_for_the_silence() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(48000, int16(tone(48000, 0.1)), "mono")
    await output.recv()
    output.clear()
    await output.write(48000, int16(tone(48000, 0.1)), "mono")
    assert (await output.recv()).to_ndarray().any()
    output.stop()


async def test_stop_ends_all_waiting() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    receiving = asyncio.create_task(output.recv())
    await asyncio.sleep(0.05)
    output.stop()
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(receiving, 1)
    await asyncio.wait_for(output.write(48000, int16(tone(48000, 5.0)), "mono"), 1)
    assert output.buffered == 0
