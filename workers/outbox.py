"""Messages that wait for their client: bounded, and filled from any thread."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque

from prometheus_client import Counter

MAX_PENDING = 256
"""Messages held until the client takes them; then the oldest is dropped."""

messages_dropped = Counter(
    "rayrtc_worker_messages_dropped_total",
    "Messages to clients that were dropped: the queue was full, or the client refuses the size.",
)
messages_ignored = Counter(
    "rayrtc_worker_messages_ignored_total",
    "Messages of clients that were ignored: too long, malformed, or not text.",
)


class Outbox(ABC):
    """The queue of a `Channel`. A subclass sends what is in it.

    Args:
        loop: the loop that sends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: deque[str] = deque()
        self._scheduled = False
        self._closed = False

    def send(self, message: str) -> None:
        """Queue a message. May be called from any thread; after `close` it does nothing."""
        with self._lock:
            if self._closed:
                return
            if len(self._pending) >= MAX_PENDING:
                self._pending.popleft()
                messages_dropped.inc()
            self._pending.append(message)
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop has ended under a thread that outlived its connection
            self.close()

    def close(self) -> None:
        """Drop what is queued and take nothing more."""
        with self._lock:
            self._closed = True
            self._pending.clear()

    def _wake(self) -> None:
        with self._lock:
            self._scheduled = False
        self._transmit()

    def _next(self) -> str | None:
        with self._lock:
            return self._pending.popleft() if self._pending else None

    @abstractmethod
    def _transmit(self) -> None:
        """Send what is queued, as far as the client takes it. Called on the loop."""
