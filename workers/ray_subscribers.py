"""Ray's messages to a driver, without the core that they take while Ray's head is away: two threads
of Ray ask for the next message, get none at once, and ask again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PAUSE = 1.0
"""Least seconds between two questions when there is no answer."""
SUBSCRIBERS = ("GcsErrorSubscriber", "GcsLogSubscriber")
"""Classes in `ray._raylet`."""


class PatientSubscriber:
    """A subscriber of Ray that waits before it says that there is nothing.

    Args:
        subscriber: Ray's.
        stopped: set when Ray's thread has to end.
    """

    def __init__(self, subscriber: Any, stopped: threading.Event) -> None:
        self._subscriber = subscriber
        self._stopped = stopped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscriber, name)

    def poll(self) -> Any:
        """Ray's answer, which waits for a message unless the head is away."""
        begin = time.monotonic()
        answer = self._subscriber.poll()
        message = answer[1] if isinstance(answer, tuple) else answer
        if message is None and (left := begin + PAUSE - time.monotonic()) > 0:
            self._stopped.wait(left)
        return answer


@contextmanager
def patient_subscribers() -> Iterator[None]:
    """A driver that is connected to Ray inside asks once a second at most."""
    from ray import _raylet
    from ray._private.worker import global_worker

    classes = {name: getattr(_raylet, name) for name in SUBSCRIBERS}

    def patient(of: Any) -> Any:
        stopped = global_worker.threads_stopped
        return lambda *args, **options: PatientSubscriber(of(*args, **options), stopped)

    for name, of in classes.items():
        setattr(_raylet, name, patient(of))
    try:
        yield
    finally:
        for name, of in classes.items():
            setattr(_raylet, name, of)
