"""What a handler emits until it is played: a bounded buffer on the monotonic clock.

It knows nothing of the transport that plays it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from workers.changes import Changes, tell
from workers.resampler import Resampler
from workers.samples import Layout, Samples, check

FRAME_TIME = 0.02
"""Seconds of one frame, in and out."""
OUTPUT_SECONDS = 0.2
"""Audio that is buffered before `emit` has to wait."""

_SAMPLE_BYTES = 2
_LATE = 0.1  # seconds that the handler may fall behind before the gap is played as silence
_EARLY = 0.0025  # as much before its time as `workers.pacer` may be late


class Chunk(NamedTuple):
    """20 ms to be played."""

    rate: int
    channels: int
    pcm: bytes
    """16-bit samples, interleaved."""
    gap: float
    """Seconds of silence before it in which nothing was played, else 0."""


class Playback:
    """Audio on its way from a handler, taken in frames of 20 ms when they are due.

    Writers wait while `OUTPUT_SECONDS` are buffered.

    Args:
        rates: Hz that can be played. What is emitted at one of them is played so, anything else at
            the last; a change waits until nothing is buffered.
        stereo: whether stereo is played as such.
        lead: seconds that are given out ahead of time, for a client that buffers.
        hush: frames of silence that are given out after a `clear`, for a client that conceals what
            is missing: it would go on with what it played last.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rates: Sequence[int],
        stereo: bool = False,
        lead: float = 0.0,
        hush: int = 0,
    ) -> None:
        self._owner = loop
        self._rates = rates
        self._most_channels = 2 if stereo else 1
        self._lead = lead
        self._hush = hush
        self._writing = threading.Lock()
        self._guard = threading.RLock()  # of what follows
        self._room = threading.Condition(self._guard)
        self._blocked = 0  # threads that wait for room
        self._pcm = bytearray()
        self._set_format(rates[-1], 1)
        self._silent = 0  # frames of silence to give out
        self._due: float | None = None  # time of the next frame
        self._rest_by: float | None = None  # time when an incomplete frame is given out
        self._heard_until = 0.0  # time when the last audio given out has been played
        self._cleared = 0
        self._closed = False
        self._discards = False
        self._wanted = False  # by who takes: to be told when there is more
        self.next_at: float | None = None
        """When `take` will have a frame, as the last one saw it; None: not until more is written,
        which `on_filled` tells."""
        self._filled: Callable[[], None] | None = None
        self._filled_on_threads = False
        self._changes = Changes(loop)

    def _set_format(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._channels = channels
        self._resampler = Resampler("s16", None, rate)
        self._byte_rate = rate * _SAMPLE_BYTES * channels
        self._frame_bytes = round(self._byte_rate * FRAME_TIME)

    def on_filled(self, filled: Callable[[], None], on_threads: bool = False) -> None:
        """Call `filled` when there is more, after `take` left less than a frame.

        Args:
            on_threads: whether it may be called on the thread that wrote; else it is on the loop.
        """
        self._filled = filled
        self._filled_on_threads = on_threads

    @property
    def buffered(self) -> float:
        """Seconds of audio not played yet."""
        return len(self._pcm) / self._byte_rate

    @property
    def playing(self) -> bool:
        """Whether something is buffered, or the time of what was given out has not passed."""
        return bool(self._pcm) or time.monotonic() < self._heard_until

    def discard(self) -> None:
        """The client takes no audio: drop all that is written, one piece each 20 ms."""
        self._discards = True

    def write_blocking(self, rate: int, samples: NDArray[Any], layout: Layout) -> None:
        """Queue audio on a thread, then wait there until there is room for more.

        Raises:
            TypeError, ValueError: `samples` is no audio (see `workers.samples.check`).
        """
        if self._append(check(rate, samples, layout)) and self._filled is not None:
            if self._filled_on_threads:
                self._filled()
            else:
                tell(self._owner, self._filled)
        if self._discards or self.buffered > OUTPUT_SECONDS:
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        with self._guard:
            self._blocked += 1
            try:
                if self._discards:
                    self._room.wait_for(lambda: self._closed, FRAME_TIME)
                self._room.wait_for(lambda: self.buffered <= OUTPUT_SECONDS or self._closed)
            finally:
                self._blocked -= 1

    async def write(self, rate: int, samples: NDArray[Any], layout: Layout) -> None:
        """`write_blocking` for the loop."""
        if self._append(check(rate, samples, layout)) and self._filled is not None:
            self._filled()
        if self._discards:
            await asyncio.sleep(FRAME_TIME)
        if self.buffered > OUTPUT_SECONDS:
            await self._changes.until(lambda: self.buffered <= OUTPUT_SECONDS or self._closed)

    def take(self, now: float) -> Chunk | None:
        """The frame that is due at the time `now` (`time.monotonic`), filled up with silence; None
        when there is none. Called by one thread at a time."""
        with self._guard:
            self._look_ahead(now)
            if self.next_at is None or now < self.next_at - _EARLY:
                return None
            gap = 0.0
            if self._due is None or now > self._due + self._lead + _LATE:
                begin = now - self._lead
                gap = 0.0 if self._due is None else begin - self._due
                self._due = begin
            self._due += FRAME_TIME
            self._rest_by = None
            if self._pcm:
                self._silent = 0
                self._heard_until = self._due + self._lead
            else:
                self._silent -= 1
            if len(self._pcm) == self._frame_bytes:  # of a handler that emits frames
                pcm = bytes(self._pcm)
                self._pcm.clear()
            else:
                pcm = bytes(self._pcm[: self._frame_bytes]).ljust(self._frame_bytes, b"\0")
                del self._pcm[: self._frame_bytes]
            chunk = Chunk(self._rate, self._channels, pcm, gap)
            self._look_ahead(now)
            if self._blocked:
                self._room.notify_all()
        self._changes.tell()
        return chunk

    def _look_ahead(self, now: float) -> None:
        """See when there is a frame to take, and whether to be told of more."""
        size = len(self._pcm)
        self._wanted = size < self._frame_bytes
        if self._closed or not (size or self._silent > 0):
            self.next_at = None
            return
        self.next_at = self._due or 0.0
        if 0 < size < self._frame_bytes:
            # a handler that emits less than a frame at once has the time of a frame to go on
            if self._rest_by is None:
                self._rest_by = now + FRAME_TIME
            self.next_at = max(self.next_at, self._rest_by)

    async def drained(self) -> None:
        """Wait until everything written was played."""
        await self._changes.until(lambda: not self._pcm or self._closed)
        if not self._closed:
            # the frame taken last is still being coded and sent
            await asyncio.sleep(FRAME_TIME + self._lead)

    def clear(self) -> None:
        """Drop what was not played yet. May be called from any thread."""
        with self._guard:
            if self.playing:
                self._silent = self._hush
            self._pcm.clear()
            self._rest_by = None
            self._cleared += 1
            self._room.notify_all()
        tell(self._owner, self._more)

    def stop(self) -> None:
        """End all waiting. Called on the loop."""
        with self._guard:
            self._closed = True
            self._pcm.clear()
            self._room.notify_all()
        self._changes.tell()

    def _more(self) -> None:
        self._changes.tell()
        if self._filled is not None:
            self._filled()

    def _append(self, samples: Samples | None) -> bool:
        """Queue samples. Returns whether who takes has to be told."""
        if samples is None or self._discards:
            return False
        with self._writing:
            cleared = self._cleared
            if samples.rate != self._rate or samples.channels != self._channels:
                samples = self._adopt(samples)
            if samples.rate == self._rate:
                pcm = samples.data.tobytes()
            else:
                converted = self._resampler.resample(samples.to_frame())
                pcm = b"".join(part.to_ndarray().tobytes() for part in converted)
            with self._guard:
                if self._closed or cleared != self._cleared:
                    return False  # a `clear` during the conversion means this audio too
                self._pcm += pcm
                wanted, self._wanted = self._wanted, False
        return wanted

    def _adopt(self, samples: Samples) -> Samples:
        """Play as is emitted from now on, if nothing else is waiting to be played; the samples with
        the channels that are played."""
        samples = samples.with_channels(min(samples.channels, self._most_channels))
        rate = samples.rate if samples.rate in self._rates else self._rates[-1]
        if (rate, samples.channels) != (self._rate, self._channels):
            with self._guard:
                if not self._pcm:
                    self._set_format(rate, samples.channels)
        return samples.with_channels(self._channels)
