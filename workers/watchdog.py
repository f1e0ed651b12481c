"""Watches a worker's event loop: names the handler that blocks it, ends a worker that stands still.

What is late by one packet (20 ms) is heard by every caller of the worker.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

from prometheus_client import Counter

from workers import calls
from workers.calls import Call

logger = logging.getLogger(__name__)

EXIT_CODE = 70
"""Exit status of a worker that its watchdog ended (EX_SOFTWARE)."""
GIL_GRACE = 2.0
"""Seconds beyond the timeout when a thread without the GIL acts, if this one cannot run."""
POLL = 0.1
"""Seconds between two questions to the loop, and those without an answer that make it blocked: a
handler that blocks it for twice as long is always seen."""
REPORT_INTERVAL = 10.0
"""Seconds in which a method of a handler is reported once with its stack, however often it blocks.
The counters have all."""

LABELS = ["stream", "handler", "method"]
NOBODY = Call("", "", "", "")
"""Stands for what blocks the loop and is no handler."""
blocks = Counter(
    "rayrtc_worker_loop_blocks_total", "Times that a handler blocked the event loop.", LABELS
)
blocked_seconds = Counter(
    "rayrtc_worker_loop_blocked_seconds_total", "Seconds that handlers blocked the loop.", LABELS
)


def stacks() -> str:
    """What every thread of this process is doing, by its name."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        lines = "".join(traceback.format_stack(frame)).rstrip()
        parts.append(f"thread {names.get(ident, ident)}:\n{lines}")
    return "\n".join(parts)


class Watchdog:
    """A thread that asks the event loop for a sign of life.

    While the loop does not answer, what it runs is reported with its stack. A loop that does not
    answer for `timeout` seconds ends the process: its calls are silent already, and the pool
    replaces a dead worker at once. Where a C extension holds the GIL for that long, `faulthandler`
    writes the stacks and ends it from a thread that needs no GIL.

    Args:
        loop: the loop to watch.
        timeout: seconds.
        name: what the log calls the process.
        end: called in place of `os._exit`, with the exit status.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        name: str,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._name = name
        self._end = end
        self._rearm = min(1.0, timeout / 5)
        self._armed = 0.0
        self._answered = time.monotonic()
        self._asked = False
        self._loop_thread: int | None = None
        self._blocking: Call | None = None
        """What the loop is blocked by; None while it answers."""
        self._told = False
        """Whether what blocks the loop was reported."""
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._answered = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer. Returns when the thread has ended."""
        self._stop.set()
        self._thread.join(POLL + 1)

    def _answer(self) -> None:
        self._loop_thread = threading.get_ident()
        self._answered = time.monotonic()
        self._asked = False

    def _watch(self) -> None:
        asked = time.monotonic()
        try:
            while True:
                before = time.monotonic()
                if before - self._armed >= self._rearm:
                    self._arm()
                    self._armed = before
                if not self._asked:
                    self._went_on(self._answered - asked)
                    self._asked, asked = True, before
                    try:
                        self._loop.call_soon_threadsafe(self._answer)
                    except RuntimeError:
                        return  # the loop is closed: the process is ending by itself
                if self._stop.wait(POLL):
                    return
                now = time.monotonic()
                if now - before > POLL + self._timeout / 2:
                    # the whole process was stopped, not its loop alone
                    asked = self._answered = now
                elif self._asked and now - asked > self._timeout:
                    self._report(now - asked)
                    return
                elif self._asked and self._blocking is None:
                    self._blocked(now - asked)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _blocked(self, silent: float) -> None:
        """The loop has not answered: see what it runs."""
        call = self._blocking = calls.running(self._loop) or NOBODY
        blocks.labels(*call[1:]).inc()
        now, key = time.monotonic(), (call.handler, call.method)
        if now < self._quiet_until.get(key, 0.0):
            return
        self._quiet_until[key] = now + REPORT_INTERVAL
        self._told = True
        frame = sys._current_frames().get(self._loop_thread or 0)
        fields = {
            **call._asdict(),
            "blocked_seconds": round(silent, 3),
            "stack": "".join(traceback.format_stack(frame)) if frame is not None else "",
        }
        if call is NOBODY:  # the machine is short of CPU, as a rule
            logger.info("%s: the event loop is late", self._name, extra=fields)
        else:
            logger.warning(
                "%s: %s of %s blocks the event loop of all calls here",
                self._name,
                call.method,
                call.handler,
                extra=fields,
            )

    def _went_on(self, seconds: float) -> None:
        if (call := self._blocking) is None:
            return
        self._blocking = None
        blocked_seconds.labels(*call[1:]).inc(max(0.0, seconds))
        if not self._told:
            return
        self._told = False
        logger.info(
            "%s: the event loop was blocked for %.2f s",
            self._name,
            seconds,
            extra={**call._asdict(), "blocked_seconds": round(seconds, 3)},
        )

    def _arm(self) -> None:
        try:
            faulthandler.dump_traceback_later(self._timeout + GIL_GRACE, exit=True, file=2)
        except (OSError, ValueError):
            pass  # no standard error to write to: the thread alone watches

    def _report(self, silent: float) -> None:
        call = self._blocking or NOBODY
        by = f" because of {call.method} of {call.handler}" if call is not NOBODY else ""
        logger.critical(
            "%s: the event loop has not answered for %.1f s%s, ending the process\n%s",
            self._name,
            silent,
            by,
            stacks(),
            extra={**call._asdict(), "blocked_seconds": round(silent, 3)},
        )
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        self._end(EXIT_CODE)
