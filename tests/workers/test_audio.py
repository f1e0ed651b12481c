"""Audio on its way to and from a handler: clicks, lag and endless queues start here."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.workers.host import until
from workers import audio, playback
from workers.audio import AudioInput, AudioOutput
from workers.playback import OUTPUT_SECONDS, Chunk, Playback
from workers.resampler import Resampler
from workers.samples import Samples, check

Frames = list[np.ndarray]


def tone(rate: int, seconds: float, frequency: float = 440.0) -> np.ndarray:
    at = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * np.pi * frequency * at)


def int16(wave: np.ndarray) -> np.ndarray:
    return (wave * 12000).astype(np.int16)


def heard(source: AudioInput, wave: np.ndarray, rate: int = 48000, samples: int = 960) -> Frames:
    """What a handler gets of stereo sound that comes in packets."""
    for part in np.split(np.repeat(int16(wave), 2), range(2 * samples, 2 * len(wave), 2 * samples)):
        source.put(Samples(rate, 2, part))
    waiting = [source.get() for _ in range(len(source._frames))]
    return [frame[1] for frame in waiting if frame is not None]


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("ptime", [480, 960, 2880])
async def test_handlers_get_20_ms_frames_without_clicks(rate: int, ptime: int) -> None:
    """Defect 12, on the way in: FastRTC converts each chunk by itself."""
    frames = heard(AudioInput(rate, "mono"), tone(48000, 0.6), samples=ptime)
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
    output = Playback(asyncio.get_running_loop(), (played,), lead=10.0)
    heard = b""
    for chunk in chunks:
        await output.write(emitted, chunk, "mono")
        while output.buffered > 0.1:
            chunk = await due(output)
            assert (chunk.rate, chunk.channels) == (played, 1)
            heard += chunk.pcm
    output.stop()
    assert len(heard) > 1.6 * played
    assert beside(np.frombuffer(heard, np.int16)[200:], played) < 1e-5

    apart = [
        part.to_ndarray()[0]
        for chunk in chunks
        for part in Resampler("s16", "mono", played).resample(Samples(emitted, 1, chunk).to_frame())
    ]
    assert beside(np.concatenate(apart)[200:], played) > 1e-4


@pytest.mark.parametrize("ptime", [120, 320, 480, 960])
def test_packets_at_the_handlers_rate_become_frames_of_20_ms(ptime: int) -> None:
    source = AudioInput(16000, "mono")
    wave = tone(16000, 0.6)
    frames = heard(source, wave, 16000, ptime)
    assert {frame.shape for frame in frames} == {(1, 320)}
    assert np.array_equal(np.concatenate(frames, axis=1)[0], int16(wave))


async def test_stereo_is_interleaved() -> None:
    frames = heard(AudioInput(48000, "stereo"), tone(48000, 0.1))
    assert {frame.shape for frame in frames} == {(1, 1920)}


async def test_a_change_of_the_clients_codec_is_survived() -> None:
    source = AudioInput(16000, "mono")
    frames = heard(source, tone(48000, 0.1)) + heard(source, tone(8000, 0.1), 8000, 160)
    assert len(frames) == 8  # of 10; each resampler keeps less than a frame


async def test_a_slow_handler_loses_the_oldest_audio_and_lags_at_most_a_second() -> None:
    before = audio.frames_dropped._value.get()
    frames = heard(AudioInput(48000, "mono"), tone(48000, 3.0))
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
    chunks = [await take(output) for _ in range(10)]
    channels = 2 if layout == "stereo" else 1
    assert {(chunk.rate, chunk.channels) for chunk in chunks} == {(24000, channels)}
    played = np.concatenate([np.frombuffer(chunk.pcm, np.int16) for chunk in chunks])
    left, right = played[::channels].astype(float), played[channels - 1 :: channels].astype(float)
    assert np.array_equal(left, right)
    assert len(left) == len(wave)
    assert np.abs(np.diff(left)).max() < 13200 * 2 * np.pi * 440 / 24000 * 1.1
    assert 11000 < np.abs(left).max() < 13500
    output.stop()


async def take(output: Playback) -> Chunk:
    """The next frame, at the pace of the test machine."""
    output._due = None
    return await due(output)


async def due(output: Playback) -> Chunk:
    """The next frame, when it is due."""
    while (chunk := output.take(time.monotonic())) is None:
        await asyncio.sleep(0.001)
    return chunk


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
        check(*arguments)


def test_floats_that_are_no_numbers_become_silence() -> None:
    samples = check(24000, np.array([np.nan, 0.5, 7.0, -7.0], np.float32), "mono")
    assert samples is not None
    assert samples.data.tolist() == [0, 16384, 32767, -32768]


async def test_what_cannot_be_played_at_its_rate_is_converted() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(44100, int16(tone(44100, 0.2)), "mono")
    chunk = await take(output)
    assert (chunk.rate, chunk.channels, len(chunk.pcm)) == (48000, 1, 1920)
    output.stop()


async def test_another_rate_waits_until_nothing_is_buffered() -> None:
    """Else a part of the sound would be at the wrong speed, or the encoder change within a word."""
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(16000, int16(tone(16000, 0.04)), "mono")
    await output.write(48000, np.repeat(int16(tone(48000, 0.04)), 2), "stereo")
    chunks = [await take(output) for _ in range(3)]
    assert {(chunk.rate, chunk.channels) for chunk in chunks} == {(16000, 1)}
    await take(output)
    assert output.buffered == 0
    await output.write(48000, np.repeat(int16(tone(48000, 0.04)), 2), "stereo")
    chunk = await take(output)
    assert (chunk.rate, chunk.channels) == (48000, 2)
    output.stop()


async def test_playback_keeps_the_pace_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "_LATE", 1.0)  # a loaded test machine is no slow handler
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 0.5)), "mono"))
    begin = time.monotonic()
    chunks = [await due(output) for _ in range(25)]
    assert time.monotonic() - begin > 0.45
    assert {chunk.gap for chunk in chunks} == {0}
    await writing
    output.stop()


async def test_the_silence_in_which_nothing_is_sent_is_told() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    first = await due(output)
    begin = time.monotonic()
    next_frame = asyncio.create_task(due(output))
    await asyncio.sleep(0.5)
    assert not next_frame.done()
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    second = await next_frame
    silence = time.monotonic() - begin - playback.FRAME_TIME
    assert first.gap == 0
    assert any(second.pcm)
    assert second.gap == pytest.approx(silence, abs=0.05)
    output.stop()


async def test_pauses_leave_the_clock_of_the_sound_with_that_of_the_handler() -> None:
    """Else the timestamps run ahead a little more with each answer, and recordings grow."""
    output = AudioOutput(asyncio.get_running_loop())
    begin = now = 100.0
    media = 0.0
    for pause in (1.0, 0.5, 3.0, 0.2, 10.0, 0.0):
        await output.write(48000, int16(tone(48000, 0.04)), "mono")
        for at in (now, now + playback.FRAME_TIME):
            chunk = output.take(at)
            assert chunk is not None
            media += chunk.gap
            assert media == pytest.approx(at - begin)
            media += playback.FRAME_TIME
        now += 2 * playback.FRAME_TIME + pause
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
        await take(output)
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
    sound = await due(output)
    output.clear()
    assert output.playing, "a frame is on its way"
    await writing
    hush = [await due(output) for _ in range(audio.HUSH_FRAMES)]
    assert not output.playing
    assert any(sound.pcm)
    assert not any(any(chunk.pcm) for chunk in hush)
    assert {chunk.gap for chunk in hush} == {0}
    following = asyncio.create_task(due(output))
    await asyncio.sleep(0.1)
    assert not following.done(), "then nothing is sent"
    output.clear()
    await asyncio.sleep(0.05)
    assert not following.done(), "and nothing for a `clear` of nothing"
    await output.write(48000, int16(tone(48000, 0.02)), "mono")
    assert any((await following).pcm)
    output.stop()


async def test_what_is_said_after_a_clear_does_not_wait_for_the_silence() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    await output.write(48000, int16(tone(48000, 0.1)), "mono")
    await due(output)
    output.clear()
    await output.write(48000, int16(tone(48000, 0.1)), "mono")
    assert any((await due(output)).pcm)
    output.stop()


async def test_stop_ends_all_waiting() -> None:
    output = AudioOutput(asyncio.get_running_loop())
    writing = asyncio.create_task(output.write(48000, int16(tone(48000, 5.0)), "mono"))
    playing = asyncio.create_task(output.drained())
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert not playing.done()
    output.stop()
    await asyncio.wait_for(asyncio.gather(writing, playing), 1)
    assert output.take(time.monotonic()) is None
    await asyncio.wait_for(output.write(48000, int16(tone(48000, 5.0)), "mono"), 1)
    assert output.buffered == 0
