"""Received audio on its way to a handler, and the track that plays a handler's own."""

import asyncio
from fractions import Fraction

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.audio.frame import AudioFrame
from numpy.typing import NDArray
from prometheus_client import Counter

from workers.playback import FRAME_TIME, Layout, Playback
from workers.resampler import Resampler
from workers.waiting_frames import WaitingFrames

INPUT_SECONDS = 1.0
"""Audio that waits for a slow handler; then the oldest frame is dropped."""
OUTPUT_RATE = 48_000
"""Hz of the sent track, the rate of Opus (RFC 7587)."""

HUSH_FRAMES = 5
"""Frames of silence after a `clear`. Without them Chromium's jitter buffer goes on with the last
sound for 0.1 s and fades it out over another 0.15 s; one may be lost on the way."""

_FRAME_SAMPLES = round(OUTPUT_RATE * FRAME_TIME)

InputFrame = tuple[int, NDArray[np.int16]]

frames_dropped = Counter(
    "rayrtc_worker_input_frames_dropped_total",
    "Frames of 20 ms that were dropped because the handler was slower than real time.",
)
frames_broken = Counter(
    "rayrtc_worker_input_frames_broken_total", "Received frames that could not be converted."
)


class AudioInput:
    """Received audio on its way to `receive`.

    `pump` or `convert` fill it on the loop; `get` takes from it on a thread, `next` on the loop.

    Args:
        rate: Hz of the frames given to the handler.
        layout: their channels; the arrays are (1, n) mono, (1, 2n) interleaved stereo.
    """

    def __init__(self, rate: int, layout: Layout) -> None:
        self.rate = rate
        self.layout = layout
        self.frame_size = round(rate * FRAME_TIME)
        limit = round(INPUT_SECONDS / FRAME_TIME)
        self._frames = WaitingFrames[InputFrame](limit, frames_dropped)
        self._resampler = self._new_resampler()

    async def pump(self, track: MediaStreamTrack) -> None:
        """Convert what `track` receives until it ends."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                self.convert(frame)

    def convert(self, frame: AudioFrame) -> None:
        """Take a frame of any size and rate, as frames of 20 ms for the handler."""
        try:
            converted = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):
            frames_broken.inc()
            self._resampler = self._new_resampler()
            return
        for part in converted:
            self._frames.put((self.rate, np.asarray(part.to_ndarray(), np.int16)))

    def _new_resampler(self) -> Resampler:
        return Resampler("s16", self.layout, self.rate, self.frame_size)

    def silence(self) -> InputFrame:
        """A frame of silence as the handler would receive it."""
        channels = 2 if self.layout == "stereo" else 1
        return self.rate, np.zeros((1, self.frame_size * channels), np.int16)

    def get(self) -> InputFrame | None:
        """The next frame, waiting on the calling thread; None after `close`."""
        return self._frames.get()

    async def next(self) -> InputFrame | None:
        """`get` for the loop."""
        return await self._frames.next()

    def close(self) -> None:
        """End both kinds of waiting. Called on the loop."""
        self._frames.close()


class AudioOutput(Playback, MediaStreamTrack):
    """The track that plays what a handler emits.

    Nothing is sent while there is nothing to play; the timestamps jump over such a silence.
    """

    kind = "audio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        MediaStreamTrack.__init__(self)
        Playback.__init__(self, loop, OUTPUT_RATE, "stereo", hush=HUSH_FRAMES)
        self._pts = 0

    def stop(self) -> None:
        """End the track and all waiting. Called on the loop."""
        Playback.stop(self)
        MediaStreamTrack.stop(self)

    async def recv(self) -> AudioFrame:
        """The next frame when it is due.

        Raises:
            MediaStreamError: the track has ended.
        """
        while True:
            gap = await self._until_due()
            if self._closed:
                raise MediaStreamError
            self._pts += round(gap * OUTPUT_RATE)
            if (chunk := self._take()) is not None:
                return self._frame(chunk)

    def _frame(self, pcm: bytes) -> AudioFrame:
        frame = AudioFrame.from_ndarray(
            np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16", layout="stereo"
        )
        frame.sample_rate = OUTPUT_RATE
        frame.time_base = Fraction(1, OUTPUT_RATE)
        frame.pts = self._pts
        self._pts += _FRAME_SAMPLES
        return frame
