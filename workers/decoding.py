"""The thread that decodes what a track receives. Replaces aiortc's, which waits without bound.

Encoded frames of video that cannot be decoded as fast as they come are dropped, all that wait at
once, and a key frame is asked for: without it those that follow cannot be decoded.
"""

import asyncio
import queue
import threading
from typing import Any

from aiortc.codecs import get_decoder
from av import FFmpegError
from prometheus_client import Counter

MAX_BEHIND = 30
"""Encoded frames that wait for the decoder, above which they are dropped: a second of video."""

frames_skipped = Counter(
    "rayrtc_worker_encoded_frames_dropped_total",
    "Received frames that were dropped because decoding was slower than their rate.",
)


def decode(
    loop: asyncio.AbstractEventLoop,
    encoded: "queue.Queue[Any]",
    decoded: "asyncio.Queue[Any]",
    key_frame_needed: threading.Event,
) -> None:
    """Decode until the end, as aiortc's `decoder_worker` does; called on a thread.

    Args:
        encoded: pairs of a codec and a frame; None is the end.
        decoded: takes the frames; None is the end.
        key_frame_needed: set when the sender is to be asked for one.
    """
    decoder: Any = None
    codec = ""
    while (task := _next(encoded)) is not None:
        if task is _BEHIND:
            decoder, codec = None, ""  # it would go on with references that are missing
            key_frame_needed.set()
            continue
        parameters, frame = task
        if codec != parameters.name:
            decoder, codec = get_decoder(parameters), parameters.name
        try:
            frames = decoder.decode(frame)
        except FFmpegError:
            key_frame_needed.set()
            continue
        for each in frames:
            _put(loop, decoded, each)
    _put(loop, decoded, None)


_BEHIND = object()


def _next(encoded: "queue.Queue[Any]") -> Any:
    """The next frame; `_BEHIND` when those that waited were too many and have been dropped."""
    task = encoded.get()
    if task is None or encoded.qsize() < MAX_BEHIND:
        return task
    dropped = 1
    while True:
        try:
            if encoded.get_nowait() is None:
                return None
        except queue.Empty:
            frames_skipped.inc(dropped)
            return _BEHIND
        dropped += 1


def _put(loop: asyncio.AbstractEventLoop, decoded: "asyncio.Queue[Any]", frame: Any) -> None:
    try:
        loop.call_soon_threadsafe(decoded.put_nowait, frame)
    except RuntimeError:
        pass  # the loop has ended under this thread
