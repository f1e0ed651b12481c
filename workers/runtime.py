"""What runs the handler of one connection has in common: its errors, its outputs and its end.

Handlers with plain functions have threads of their own (`workers.threads`), so that one that blocks
holds up nobody else; those with coroutines run on the worker's loop (`workers.tasks`). Which
transport their media takes is not known here.

Errors: an exception in `receive`, `emit` or a video function is sent to the client as an `error`
message, logged and counted, and the next call is made as if nothing had happened; after
`MAX_FAILURES` failures of the same function without a success between them the connection ends with
`handler_error`. So it does at once after an exception in `start_up` or inside a generator, which
cannot go on after one. One in `shutdown` is reported and changes nothing.
"""

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from prometheus_client import Counter

from rayrtc.cluster import codec
from rayrtc.errors import ConnectionClosed, TooLarge
from rayrtc.messages import (
    AdditionalOutputs,
    Channel,
    CloseStream,
    Context,
    WebRTCError,
    create_message,
    current_channel,
    current_context,
)
from workers.calls import Call, current_call
from workers.handler_times import ConnectionTimes
from workers.media import Media

IDLE_TIME = 0.02
"""Least seconds between two calls of `emit` that return None or fail."""
MAX_FAILURES = 10
FATAL = ("start_up", "generator")
"""Calls of which one failure ends the connection."""
STOP_TIMEOUT = 5.0
"""Seconds that `shutdown` may take, and before it the running calls of an async handler."""
ABANDON_TIME = 1.0
"""Seconds after `shutdown` when a thread that is still in the handler is left behind."""
NUDGE_TIME = 0.1
"""Seconds after which an `emit` that is still blocked at the end gets its frame of silence."""
MAX_UNSTORED = 256
"""Outputs of a connection on their way to Redis, above which `emit` is called no faster than one
output in `STORE_TIME` seconds. So a burst is not dropped, and with Redis away audio goes on."""
STORE_TIME = 0.01

handler_errors = Counter(
    "rayrtc_worker_handler_errors_total",
    "Exceptions raised by handlers.",
    ["stream", "call"],
)


class Session(Protocol):
    """What a runtime asks of the connection it serves. All methods are called on the loop."""

    def put_output(self, encoded: str, stored: Callable[[], None]) -> None:
        """Pass on encoded outputs; `stored` is called when they were written or dropped."""

    def play_out(self, message: str) -> None:
        """End the connection when the queued audio was played."""

    def fail(self) -> None:
        """End the connection: the handler is broken."""


class Runtime(ABC):
    """What both kinds of handlers have in common.

    Args:
        stream: name of the stream, for the metrics.
        handler_name: as its author knows it.
        context: the connection, as `get_current_context()` gives it.
        payload_max: largest outputs, bytes encoded.
        log: carries the connection id.
    """

    def __init__(
        self,
        *,
        stream: str,
        handler_name: str,
        context: Context,
        channel: Channel,
        media: Media,
        session: Session,
        payload_max: int,
        log: "logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        self._stream = stream
        self._handler_name = handler_name
        self._context = context
        self._channel = channel
        self._media = media
        self._session = session
        self._payload_max = payload_max
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._times = ConnectionTimes(stream)
        self._failures: dict[str, int] = {}
        self._unstored = 0
        self._storing = threading.Condition()
        self._done = False
        """No further call is made, but of `shutdown`."""

    @abstractmethod
    def start(self) -> None:
        """Call the handler until `stop`. Called on the loop, once."""

    async def stop(self) -> None:
        """End the calls and then call `shutdown`. Called on the loop, once, started or not."""
        try:
            await self._stop()
        finally:
            self._times.close()

    @abstractmethod
    async def _stop(self) -> None:
        """What `stop` does of each kind of handler."""

    def _enter(self, method: str) -> Call:
        """Make the connection known to the code that runs in this thread or task."""
        current_channel.set(self._channel)
        current_context.set(self._context)
        call = Call(self._context.webrtc_id, self._stream, self._handler_name, method)
        current_call.set(call)
        return call

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            self._done = True  # the loop has ended under a thread that outlived its connection

    def _succeeded(self, call: str) -> None:
        self._failures[call] = 0

    def _failed(self, call: str, error: BaseException) -> None:
        """Report an exception; ends the connection when it is one too many."""
        if self._done and isinstance(error, ConnectionClosed):
            return  # what waited for the client was told that it is gone
        handler_errors.labels(self._stream, call).inc()
        extra = {**(self._log.extra or {}), "handler": self._handler_name, "method": call}
        self._log.logger.error("%s failed: %s", call, error, exc_info=error, extra=extra)
        if not (isinstance(error, WebRTCError) and error.sent):
            self._channel.send(create_message("error", str(error) or type(error).__name__))
        self._failures[call] = self._failures.get(call, 0) + 1
        if (call in FATAL or self._failures[call] >= MAX_FAILURES) and not self._done:
            self._done = True
            self._on_loop(self._session.fail)

    def _put_outputs(self, outputs: AdditionalOutputs) -> None:
        try:
            encoded = codec.encode(outputs.args, self._payload_max)
        except (TypeError, ValueError, TooLarge) as error:
            self._failed("outputs", error)
            return
        self._succeeded("outputs")
        with self._storing:
            self._unstored += 1
        self._on_loop(self._session.put_output, encoded, self._stored)

    def _stored(self) -> None:
        with self._storing:
            self._unstored -= 1
            self._storing.notify()

    def _room(self) -> bool:
        return self._unstored < MAX_UNSTORED

    def _end(self, close: CloseStream) -> None:
        if not self._done:
            self._done = True
            self._on_loop(self._session.play_out, close.msg)
