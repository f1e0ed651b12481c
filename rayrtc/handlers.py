"""The classes a handler author derives from.

They hold no transport: a worker binds one copy to each connection.
"""

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rayrtc.errors import ConnectionClosed
from rayrtc.messages import (
    AdditionalOutputs,
    Channel,
    CloseStream,
    WebRTCData,
    create_message,
)

ARGS_TIMEOUT = 30.0
"""Seconds that `wait_for_args` waits for the client to send its inputs."""

Item = TypeVar("Item")
AudioFrame: TypeAlias = tuple[int, NDArray[np.int16]]
"""What `receive` gets: the rate in Hz and 20 ms of samples, (1, n) mono or (1, 2n) stereo."""
AudioArray: TypeAlias = NDArray[np.int16] | NDArray[np.float32]
Audio: TypeAlias = tuple[int, AudioArray] | tuple[int, AudioArray, Literal["mono", "stereo"]]
AudioEmitType: TypeAlias = (
    Audio | AdditionalOutputs | CloseStream | tuple[Audio, AdditionalOutputs | CloseStream] | None
)


async def wait_for_item(queue: asyncio.Queue[Item], timeout: float = 0.1) -> Item | None:
    """The next item of `queue`; None when none came within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await queue.get()
    except TimeoutError:
        return None


class StreamHandlerBase(ABC):
    """What sync and async handlers share.

    Args:
        expected_layout: channels of the arrays given to `receive`: mono (1, n), stereo interleaved
            (1, 2n).
        output_sample_rate: Hz of what `emit` returns; a multiple of 50.
        output_frame_size: ignored; it is always `output_sample_rate // 50` (20 ms).
        input_sample_rate: Hz of the arrays given to `receive`.
        fps: video frames per second.

    Raises:
        ValueError: `output_sample_rate` is no multiple of 50.
    """

    def __init__(
        self,
        expected_layout: Literal["mono", "stereo"] = "mono",
        output_sample_rate: int = 24000,
        output_frame_size: int | None = None,
        input_sample_rate: int = 48000,
        fps: int = 30,
    ) -> None:
        if output_sample_rate <= 0 or output_sample_rate % 50 != 0:
            raise ValueError(
                f"output_sample_rate must be a multiple of 50, got {output_sample_rate}"
            )
        self.expected_layout: Literal["mono", "stereo"] = expected_layout
        self.output_sample_rate = output_sample_rate
        self.output_frame_size = output_sample_rate // 50
        self.input_sample_rate = input_sample_rate
        self.fps = fps
        if output_frame_size not in (None, self.output_frame_size):
            warnings.warn(
                f"output_frame_size is ignored: frames are 20 ms, {self.output_frame_size} "
                f"samples at {output_sample_rate} Hz",
                stacklevel=2,
            )
        self.latest_args: list[Any] = []
        self.args_set: asyncio.Event = asyncio.Event()
        self.channel_set: asyncio.Event = asyncio.Event()
        self.phone_mode = False
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clear_queue: Callable[[], None] | None = None
        self._playing: Callable[[], bool] | None = None
        self._waiting: set[Future[None]] = set()
        self._ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The worker's event loop.

        Raises:
            RuntimeError: the handler is not bound to a connection.
        """
        if self._loop is None:
            raise RuntimeError("the handler is not bound to a connection")
        return self._loop

    @property
    def channel(self) -> Channel | None:
        """Where messages to the client go; None before the handler is bound."""
        return self._channel

    def bind(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        clear_queue: Callable[[], None],
        playing: Callable[[], bool] | None = None,
    ) -> None:
        """Tie this copy to a connection. Called by the worker, on `loop`, before `start_up`."""
        self._loop = loop
        self._clear_queue = clear_queue
        self._playing = playing
        self._channel = channel
        self.channel_set.set()

    def unbind(self) -> None:
        """The connection has ended: wake who waits for its inputs. Called on the loop."""
        self._ended = True
        for waiting in list(self._waiting):
            waiting.cancel()

    def clear_queue(self) -> None:
        """Drop the audio that was emitted and not played yet. May be called from any thread."""
        if self._clear_queue is not None:
            self._clear_queue()

    @property
    def playing(self) -> bool:
        """Whether audio that was emitted is still being played to the client."""
        return self._playing is not None and self._playing()

    async def fetch_args(self) -> None:
        """Ask the client for its inputs: it gets `send_input`."""
        await self.send_message(create_message("send_input", []))

    async def wait_for_args(self) -> None:
        """Ask the client for its inputs and wait for them. A phone has none, so it does not wait.

        Raises:
            TimeoutError: no inputs came within 30 s.
        """
        if self.phone_mode:
            self.args_set.set()
            return
        await self.fetch_args()
        async with asyncio.timeout(ARGS_TIMEOUT):
            await self.args_set.wait()

    def wait_for_args_sync(self) -> None:
        """`wait_for_args` for sync handlers; not to be called on the event loop.

        Raises:
            TimeoutError: no inputs came within 30 s.
            ConnectionClosed: the connection has ended meanwhile.
        """
        waiting = asyncio.run_coroutine_threadsafe(self.wait_for_args(), self.loop)
        self._waiting.add(waiting)
        try:
            if self._ended:
                waiting.cancel()
            waiting.result(ARGS_TIMEOUT + 1)
        except CancelledError:
            raise ConnectionClosed from None
        finally:
            self._waiting.discard(waiting)

    async def send_message(self, msg: str) -> None:
        """Send JSON text to the client."""
        if self._channel is not None:
            self._channel.send(msg)

    def send_message_sync(self, msg: str) -> None:
        """`send_message` from any thread."""
        if self._channel is not None:
            self._channel.send(msg)

    def set_args(self, args: list[Any]) -> None:
        """Take new inputs: `latest_args` becomes the placeholder and `args`. Called on the loop.

        A `WebRTCData` as the first input takes the place of the placeholder.

        Raises:
            ValueError: `args` is empty.
        """
        if not args:
            raise ValueError("args cannot be empty")
        first = [] if isinstance(args[0], WebRTCData) else ["__webrtc_value__"]
        self.latest_args = [*first, *args]
        self.args_set.set()

    def reset(self) -> None:
        """Forget that inputs were set."""
        self.args_set.clear()

    @abstractmethod
    def copy(self) -> Self:
        """A fresh handler for one connection."""


class StreamHandler(StreamHandlerBase):
    """A handler with plain functions; each copy runs on threads of its own."""

    @abstractmethod
    def receive(self, frame: AudioFrame) -> None:
        """Take 20 ms of audio: the rate in Hz and samples of shape (1, n) mono, (1, 2n) stereo."""

    @abstractmethod
    def emit(self) -> AudioEmitType:
        """The next audio, outputs, end, or None when there is nothing. May block."""

    def start_up(self) -> None:
        """Called once the connection is up, beside `receive` and `emit`."""

    def shutdown(self) -> None:
        """Called exactly once at the end of the connection, whatever ended it."""


class AsyncStreamHandler(StreamHandlerBase):
    """A handler with coroutines; all copies share the worker's event loop, so none may block."""

    @abstractmethod
    async def receive(self, frame: AudioFrame) -> None:
        """Take 20 ms of audio: the rate in Hz and samples of shape (1, n) mono, (1, 2n) stereo."""

    @abstractmethod
    async def emit(self) -> AudioEmitType:
        """The next audio, outputs, end, or None when there is nothing."""

    async def start_up(self) -> None:
        """Called once the connection is up, beside `receive` and `emit`."""

    async def shutdown(self) -> None:
        """Called exactly once at the end of the connection, whatever ended it."""


StreamHandlerImpl: TypeAlias = StreamHandler | AsyncStreamHandler
"""Any handler of sound, with or without video."""
