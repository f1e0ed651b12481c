"""Video between a connection's tracks and its handler: two bounded queues of frames.

Frames are converted on the handler's threads, never on the event loop. Nothing here grows stale:
what waits longer than `MAX_AGE` for a slow handler is dropped, and the newest frame is always kept.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from prometheus_client import Counter

from rayrtc.video import VideoArray
from workers.changes import Changes
from workers.waiting_frames import WaitingFrames

MAX_AGE = 0.25
"""Seconds that a received frame waits for the handler; older ones are dropped, but the newest."""
MAX_WAITING = 16
"""Received frames that wait at most, whatever their rate."""
OUTPUT_SECONDS = 0.2
"""Frames, as time, that a generator may be ahead of what is shown; as much as with audio."""
REPEAT_TIME = 1.0
"""Seconds after which a frame that stays is sent again: the client may have lost the packets of the
first, and its request for a key frame is answered with the next frame only."""
SMALL = 640 * 480
"""Pixels up to which a function's frame is coded on its own thread, which takes 2 ms."""
MAX_SIDE = 4096
"""Largest width and height of a frame from a handler, pixels."""
CLOCK_RATE = 90_000
"""Hz of RTP timestamps of video (RFC 3551, section 5)."""

_LATE = 0.1  # seconds that the handler may fall behind before the frame rate starts anew
_DEFAULT_SIZE = (480, 640)

frames_dropped = Counter(
    "rayrtc_worker_video_frames_dropped_total",
    "Received video frames that were dropped because the handler was slower than their rate.",
)
frames_replaced = Counter(
    "rayrtc_worker_video_frames_replaced_total",
    "Frames from handlers that a newer one replaced before they were due.",
)


class VideoInput:
    """Received frames on their way to the handler.

    `put` fills it on any thread; `get` and `get_frame` take from it on a thread, `next_frame` on
    the loop.

    Args:
        newest_only: keep but one frame, the newest.
    """

    def __init__(self, newest_only: bool = False) -> None:
        limit = 1 if newest_only else MAX_WAITING
        self._frames = WaitingFrames[VideoFrame](limit, frames_dropped, MAX_AGE)
        self._reformatter = VideoReformatter()
        self._shape = (*_DEFAULT_SIZE, 3)

    def put(self, frame: VideoFrame) -> None:
        """Add a received frame."""
        self._frames.put(frame)

    def to_array(self, frame: VideoFrame) -> VideoArray:
        """The pixels of a frame. Takes milliseconds: not for the loop."""
        converted = self._reformatter.reformat(frame, format="bgr24", threads=1)
        array: NDArray[np.uint8] = np.ascontiguousarray(converted.to_ndarray(), np.uint8)
        self._shape = array.shape[0], array.shape[1], 3
        return array

    def shows(self, frame: VideoFrame, pixels: VideoArray) -> bool:
        """Whether `pixels` are still those of a frame: what `to_array` made may be drawn on."""
        return bool(np.array_equal(_words(self.to_array(frame)), _words(pixels)))

    def silence(self) -> VideoArray:
        """A black frame of the size received last."""
        return np.zeros(self._shape, np.uint8)

    def get_frame(self) -> VideoFrame | None:
        """The next frame, waiting on the calling thread; None after `close`."""
        return self._frames.get()

    def get(self) -> VideoArray | None:
        """The pixels of the next frame, as `get_frame`. One that cannot be converted is skipped."""
        while (frame := self.get_frame()) is not None:
            try:
                return self.to_array(frame)
            except (av.FFmpegError, ValueError):
                frames_dropped.inc()
        return None

    async def next_frame(self) -> VideoFrame | None:
        """`get_frame` for the loop."""
        return await self._frames.next()

    def close(self) -> None:
        """End both kinds of waiting. Called on the loop."""
        self._frames.close()


def _words(pixels: VideoArray) -> NDArray[Any]:
    """The same as larger numbers, which are compared faster, if its size allows that."""
    flat = pixels.reshape(-1)
    return flat if flat.size % 8 else flat.view(np.uint64)


class VideoOutput(MediaStreamTrack):
    """The track that shows what a handler emits, `fps` frames a second at most.

    While there is nothing new to show, the last frame is repeated each `REPEAT_TIME`.

    Args:
        fps: frames per second.
        ahead: frames that wait to be shown, above which a writer waits.
        replace: the writer does not wait, its frame takes the place of the one that waits.
    """

    kind = "video"

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fps: float, ahead: int = 1, replace: bool = False
    ) -> None:
        super().__init__()
        self._owner = loop
        self._interval = 1 / fps
        self._ahead = ahead
        self._replace = replace
        self._reformatter = VideoReformatter()
        self._room = threading.Condition()  # guards what follows
        self._frames: deque[VideoFrame] = deque()
        self._closed = False
        self._discards = False
        self._changes = Changes(loop)
        self._coder: Callable[[VideoFrame], None] | None = None
        self._shown: VideoFrame | None = None
        self._shown_at = float("-inf")
        self._due: float | None = None
        self._begin = 0.0
        self._pts = -1

    @property
    def buffered(self) -> float:
        """Seconds until everything written is shown."""
        return len(self._frames) * self._interval

    def discard(self) -> None:
        """The client takes no video: drop all that is written, at the pace it would be shown."""
        self._discards = True

    def to_frame(self, pixels: VideoArray) -> VideoFrame | None:
        """A frame fit for the encoders; None when it would be dropped. Not for the loop.

        Raises:
            TypeError: `pixels` is no array of 8-bit integers.
            ValueError: its shape is not (height, width, 3), or it is too large.
        """
        if self._discards:
            return None
        check_pixels(pixels)
        frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="bgr24")
        return self._reformatter.reformat(frame, format="yuv420p", threads=1)

    def on_due(self, coder: Callable[[VideoFrame], None]) -> None:
        """Have frames that `show` is given when they are due coded by `coder`, on its thread."""
        self._coder = coder

    def show(self, frame: VideoFrame | None) -> None:
        """`write_blocking` for a frame that may be coded on this thread, if it is small and due.

        To hand it to another thread would cost more than others gain by it. One that is early by
        less than half of the interval counts as due: what it follows comes at its own times.
        """
        if frame is not None and (coder := self._coder) is not None:
            with self._room:
                now = self._owner.time()
                early = self._due is not None and now < self._due - self._interval / 2
                small = frame.width * frame.height <= SMALL
                if small and self._replace and not (early or self._frames or self._idle):
                    self._until_due(now)
                    stamped = self._stamped(frame, now)
                else:
                    stamped = None
            if stamped is not None:
                coder(stamped)
                return
        self.write_blocking(frame)

    def write_blocking(self, frame: VideoFrame | None, wait: bool = False) -> None:
        """Queue a frame on a thread, then wait there until there is room for the next.

        Args:
            frame: as `to_frame` made it.
            wait: replace no frame, even if the track does otherwise.
        """
        waits = wait or not self._replace
        self._put(frame, waits)
        with self._room:
            if self._discards:
                self._room.wait_for(lambda: self._closed, self._interval)
            elif waits:
                self._room.wait_for(self._has_room)

    async def write(self, frame: VideoFrame | None) -> None:
        """`write_blocking` for the loop."""
        self._put(frame, not self._replace)
        if self._discards:
            await asyncio.sleep(self._interval)
        if not self._replace:
            await self._changes.until(self._has_room)

    async def drained(self) -> None:
        """Wait until everything written was shown."""
        await self._changes.until(lambda: not self._frames or self._closed)
        if not self._closed:
            await asyncio.sleep(self._interval)  # the last frame is still being coded and sent

    def clear(self) -> None:
        """Drop what was not shown yet. May be called from any thread."""
        with self._room:
            self._frames.clear()
            self._room.notify_all()
        self._changes.tell()

    def stop(self) -> None:
        """End the track and all waiting. Called on the loop."""
        with self._room:
            self._closed = True
            self._frames.clear()
            self._room.notify_all()
        self._changes.tell()
        super().stop()

    async def recv(self) -> VideoFrame:
        """The next frame when it is due.

        Raises:
            MediaStreamError: the track has ended.
        """
        while True:
            fresh = await self._fresh()
            with self._room:
                moment = self._until_due(self._owner.time())
            if (wait := moment - self._owner.time()) > 0:
                await asyncio.sleep(wait)
            with self._room:
                if self._closed:
                    raise MediaStreamError
                if self._frames:
                    frame = self._frames.popleft()
                elif self._shown is not None and not fresh:
                    frame = self._shown
                else:
                    continue  # cleared meanwhile
                self._stamped(frame, moment)
                self._room.notify_all()
            self._changes.tell()
            return frame

    async def _fresh(self) -> bool:
        """Wait for a frame or the end; False when the last frame is to be repeated instead."""
        while not (self._frames or self._closed):
            wait = REPEAT_TIME
            if self._shown is not None:
                wait = self._shown_at + REPEAT_TIME - self._owner.time()
                if wait <= 0:
                    return False
            try:
                async with asyncio.timeout(wait):
                    await self._changes.until(lambda: bool(self._frames) or self._closed)
            except TimeoutError:
                pass  # one may have been shown without this
        return True

    def _until_due(self, now: float) -> float:
        """The time at which a frame may be shown, or now if it has passed."""
        if self._due is None:
            self._begin = self._due = now
        elif now > self._due + _LATE:
            self._due = now
        return max(now, self._due)

    def _stamped(self, frame: VideoFrame, moment: float) -> VideoFrame:
        """A frame with the time at which it is shown."""
        assert self._due is not None
        self._due += self._interval
        self._shown, self._shown_at = frame, self._owner.time()
        # encoders take the rate of the frames from it
        self._pts = max(self._pts + 1, round((moment - self._begin) * CLOCK_RATE))
        frame.pts = self._pts
        frame.time_base = Fraction(1, CLOCK_RATE)
        return frame

    @property
    def _idle(self) -> bool:
        """Whether nothing is to be shown."""
        return self._closed or self._discards

    def _has_room(self) -> bool:
        return len(self._frames) < self._ahead or self._closed

    def _put(self, frame: VideoFrame | None, keep: bool) -> None:
        with self._room:
            if frame is None or self._idle:
                return
            if self._frames and not keep:
                self._frames.clear()
                frames_replaced.inc()
            self._frames.append(frame)
        self._changes.tell()


def check_pixels(pixels: Any) -> None:
    """Whether a handler's frame is one.

    Raises:
        TypeError, ValueError: as `VideoOutput.to_frame`.
    """
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"a frame must be a NumPy array, got {type(pixels).__name__}")
    if pixels.dtype != np.uint8:
        raise TypeError(f"a frame must be uint8, got {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a frame must have the shape (height, width, 3), got {pixels.shape}")
    if not (2 <= pixels.shape[0] <= MAX_SIDE and 2 <= pixels.shape[1] <= MAX_SIDE):
        raise ValueError(f"a frame must have 2 to {MAX_SIDE} pixels each way, got {pixels.shape}")
