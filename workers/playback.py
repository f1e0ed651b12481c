"""What a handler emits until it is played: a bounded buffer on the monotonic clock.

It knows nothing of the transport that plays it.
"""

import asyncio
import threading
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from workers.changes import Changes
from workers.resampler import Resampler

FRAME_TIME = 0.02
"""Seconds of one frame, in and out."""
OUTPUT_SECONDS = 0.2
"""Audio that is buffered before `emit` has to wait."""

_SAMPLE_BYTES = 2
_LATE = 0.1  # seconds that the handler may fall behind before the gap is played as silence

Layout = Literal["mono", "stereo"]


class Playback:
    """Audio on its way from a handler, taken in frames of 20 ms when they are due.

    Writers wait while `OUTPUT_SECONDS` are buffered.

    Args:
        rate: Hz of what is played.
        layout: its channels.
        lead: seconds that are given out ahead of time, for a client that buffers.
        hush: frames of silence that are given out after a `clear`, for a client that conceals what
            is missing: it would go on with what it played last.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rate: int,
        layout: Layout,
        lead: float = 0.0,
        hush: int = 0,
    ) -> None:
        self._owner = loop
        self._lead = lead
        self._hush = hush
        self._stereo = layout == "stereo"
        # FFmpeg would lower mono by 3 dB on its way to stereo, so that is done here
        self._resampler = Resampler("s16", None if self._stereo else "mono", rate)
        self._byte_rate = rate * _SAMPLE_BYTES * (2 if self._stereo else 1)
        self._frame_bytes = round(self._byte_rate * FRAME_TIME)
        self._writing = threading.Lock()
        self._room = threading.Condition()  # guards what follows
        self._pcm = bytearray()
        self._silent = 0  # frames of silence to give out
        self._heard_until = 0.0  # loop time when the last audio given out has been played
        self._cleared = 0
        self._closed = False
        self._discards = False
        self._changes = Changes(loop)
        self._due: float | None = None

    @property
    def buffered(self) -> float:
        """Seconds of audio not played yet."""
        return len(self._pcm) / self._byte_rate

    @property
    def playing(self) -> bool:
        """Whether something is buffered, or the time of what was given out has not passed."""
        return bool(self._pcm) or self._owner.time() < self._heard_until

    def discard(self) -> None:
        """The client takes no audio: drop all that is written, one piece each 20 ms."""
        self._discards = True

    def write_blocking(self, rate: int, samples: NDArray[Any], layout: Layout) -> None:
        """Queue audio on a thread, then wait there until there is room for more.

        Raises:
            TypeError, ValueError: `samples` is no audio (see `to_frame`).
        """
        self._append(to_frame(rate, samples, layout))
        with self._room:
            if self._discards:
                self._room.wait_for(lambda: self._closed, FRAME_TIME)
            while self.buffered > OUTPUT_SECONDS and not self._closed:
                self._room.wait()

    async def write(self, rate: int, samples: NDArray[Any], layout: Layout) -> None:
        """`write_blocking` for the loop."""
        self._append(to_frame(rate, samples, layout))
        if self._discards:
            await asyncio.sleep(FRAME_TIME)
        while self.buffered > OUTPUT_SECONDS and not self._closed:
            await self._changes.next()

    async def next(self) -> bytes | None:
        """The samples of the next frame when it is due; None after `stop`."""
        while not self._closed:
            await self._until_due()
            if (chunk := self._take()) is not None:
                return chunk
        return None

    async def drained(self) -> None:
        """Wait until everything written was played."""
        while self._pcm and not self._closed:
            await self._changes.next()
        if not self._closed:
            # the frame taken last is still being coded and sent
            await asyncio.sleep(FRAME_TIME + self._lead)

    def clear(self) -> None:
        """Drop what was not played yet. May be called from any thread."""
        with self._room:
            if self.playing:
                self._silent = self._hush
            self._pcm.clear()
            self._cleared += 1
            self._room.notify_all()
        self._changes.tell()

    def stop(self) -> None:
        """End all waiting. Called on the loop."""
        with self._room:
            self._closed = True
            self._pcm.clear()
            self._room.notify_all()
        self._changes.tell_at_once()

    def _append(self, frame: AudioFrame | None) -> None:
        if frame is None or self._discards:
            return
        with self._writing:
            cleared = self._cleared
            parts = [self._interleaved(part) for part in self._resampler.resample(frame)]
            with self._room:
                if self._closed or cleared != self._cleared:
                    return  # a `clear` during the conversion means this audio too
                for part in parts:
                    self._pcm += part
        self._changes.tell()

    def _interleaved(self, frame: AudioFrame) -> bytes:
        samples = frame.to_ndarray()
        doubled = self._stereo and frame.layout.name == "mono"
        return (np.repeat(samples, 2) if doubled else samples).tobytes()

    def _take(self) -> bytes | None:
        """A frame that is due, filled up with silence; None when there is no audio."""
        with self._room:
            if not self._has_frame or self._closed:
                return None
            assert self._due is not None
            self._due += FRAME_TIME
            if self._pcm:
                self._silent = 0
                self._heard_until = self._due + self._lead
            else:
                self._silent -= 1
            chunk = bytes(self._pcm[: self._frame_bytes]).ljust(self._frame_bytes, b"\0")
            del self._pcm[: self._frame_bytes]
            self._room.notify_all()
        self._changes.tell_at_once()
        return chunk

    @property
    def _has_frame(self) -> bool:
        return bool(self._pcm) or self._silent > 0

    async def _until_due(self) -> float:
        """Wait for audio, then for the time to play it.

        Returns:
            Seconds of silence between the end of what was played before and now, else 0.
        """
        while not self._has_frame and not self._closed:
            await self._changes.next()
        if 0 < len(self._pcm) < self._frame_bytes and not self._closed:
            await self._rest_of_frame()
        now = self._owner.time()
        if self._due is None or now > self._due + self._lead + _LATE:
            gap = 0.0 if self._due is None else now - self._due
            self._due = now - self._lead
            return gap
        if now < self._due:
            await asyncio.sleep(self._due - now)
        return 0.0

    async def _rest_of_frame(self) -> None:
        """Give a handler that emits less than a frame at once the time of a frame to go on."""
        try:
            async with asyncio.timeout(FRAME_TIME):
                while len(self._pcm) < self._frame_bytes and not self._closed:
                    await self._changes.next()
        except TimeoutError:
            return


def to_frame(rate: int, samples: NDArray[Any], layout: Layout) -> AudioFrame | None:
    """What a handler emitted as a frame; None when it is empty.

    Args:
        rate: Hz, 1,000 to 384,000.
        samples: 16-bit integers or floats from -1 to 1; shape (n,) or (1, n), for stereo
            interleaved, or (2, n) with one row for each channel.
        layout: "mono" or "stereo".

    Raises:
        TypeError: wrong type of `rate` or `samples`.
        ValueError: wrong shape, rate or layout.
    """
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"audio must be a NumPy array, got {type(samples).__name__}")
    if not isinstance(rate, int | np.integer):
        raise TypeError(f"the sample rate must be an integer, got {type(rate).__name__}")
    if not 1_000 <= rate <= 384_000:
        raise ValueError(f"a sample rate of {rate} Hz is out of range")
    if layout not in ("mono", "stereo"):
        raise ValueError(f'the layout must be "mono" or "stereo", got {layout!r}')
    if np.issubdtype(samples.dtype, np.floating):
        data, form = np.nan_to_num(samples.astype(np.float32, copy=False)), "flt"
    elif samples.dtype == np.int16:
        data, form = samples, "s16"
    else:
        raise TypeError(f"audio must be int16 or float32, got {samples.dtype}")
    channels = 2 if layout == "stereo" else 1
    if data.ndim == 2 and data.shape[0] == 2 and channels == 2:
        data = data.T  # planar to interleaved
    elif data.ndim != 1 and not (data.ndim == 2 and data.shape[0] == 1):
        raise ValueError(f"{layout} audio of shape {data.shape} is not supported")
    if data.size % channels:
        raise ValueError("stereo audio has an odd number of samples")
    if data.size == 0:
        return None
    flat = np.ascontiguousarray(data).reshape(1, -1)
    frame = AudioFrame.from_ndarray(flat, format=form, layout=layout)
    frame.sample_rate = int(rate)
    frame.time_base = Fraction(1, int(rate))
    return frame
