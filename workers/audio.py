"""Received audio on its way to a handler, and the track that plays a handler's own."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from av.audio.frame import AudioFrame
from numpy.typing import NDArray
from prometheus_client import Counter

from rayrtc.opus import OpusOptions
from workers.opus import RATES
from workers.playback import FRAME_TIME, Playback
from workers.resampler import Resampler
from workers.samples import CHANNELS, Layout, Samples
from workers.waiting_frames import WaitingFrames

INPUT_SECONDS = 1.0
"""Audio that waits for a slow handler; then the oldest frame is dropped."""
HUSH_FRAMES = 5
"""Frames of silence after a `clear`. Without them Chromium's jitter buffer goes on with the last
sound for 0.1 s and fades it out over another 0.15 s; one may be lost on the way."""

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

    `put` and `convert` fill it on the loop; `get` takes from it on a thread, `next` on the loop.

    Args:
        rate: Hz of the frames given to the handler.
        layout: their channels; the arrays are (1, n) mono, (1, 2n) interleaved stereo.
    """

    def __init__(self, rate: int, layout: Layout) -> None:
        self.rate = rate
        self.layout = layout
        self.channels = CHANNELS[layout]
        self.frame_size = round(rate * FRAME_TIME)
        limit = round(INPUT_SECONDS / FRAME_TIME)
        self._frames = WaitingFrames[InputFrame](limit, frames_dropped)
        self._resampler = self._new_resampler()
        self._rest = _NOTHING

    def put(self, samples: Samples) -> None:
        """Take samples, as frames of 20 ms for the handler."""
        if samples.rate != self.rate:
            if samples.data.size:
                self.convert(samples.to_frame())
            return
        if samples.channels != self.channels:
            samples = samples.with_channels(self.channels)
        data = samples.data
        size = self.frame_size * self.channels
        if data.size == size and not self._rest.size:  # as nearly always
            self._frames.put((self.rate, data.reshape(1, -1)))
            return
        data = np.concatenate((self._rest, data))
        whole = data.size - data.size % size
        self._rest = data[whole:]
        for at in range(0, whole, size):
            self._frames.put((self.rate, data[at : at + size].reshape(1, -1)))

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
        return self.rate, np.zeros((1, self.frame_size * self.channels), np.int16)

    def get(self) -> InputFrame | None:
        """The next frame, waiting on the calling thread; None after `close`."""
        return self._frames.get()

    def next(self) -> Coroutine[Any, Any, InputFrame | None]:
        """`get` for the loop."""
        return self._frames.next()

    def close(self) -> None:
        """End both kinds of waiting. Called on the loop."""
        self._frames.close()


_NOTHING = np.zeros(0, np.int16)


class AudioOutput(Playback, MediaStreamTrack):
    """The track that plays what a handler emits: an `AudioSender` takes from it.

    Args:
        opus: how it is coded.
    """

    kind = "audio"

    def __init__(self, loop: asyncio.AbstractEventLoop, opus: OpusOptions | None = None) -> None:
        self.opus = opus or OpusOptions()
        MediaStreamTrack.__init__(self)
        Playback.__init__(self, loop, RATES, stereo=True, hush=HUSH_FRAMES)

    def stop(self) -> None:
        """End the track and all waiting. Called on the loop."""
        Playback.stop(self)
        MediaStreamTrack.stop(self)

    async def recv(self) -> Any:
        """Nobody calls this: the track is given to nobody else."""
        raise NotImplementedError
