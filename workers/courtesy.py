"""A thread that, once woken, lets the one that woke it finish, while the processors are not busy.

The loop has the GIL when it wakes a handler's thread. Linux often runs the woken thread at once, in
place of the loop: it finds the GIL taken and goes to sleep again, two switches for nothing, each
frame. A thread that has the policy SCHED_BATCH when it is woken (sched(7)) runs when the loop has
ended its turn. It may also wait longer than sound can, for others that compute: a thread that is
late on average gives it up for a while.
"""

import os
import sys
import time

LATE = 0.001
"""Seconds that a woken thread waits on average when others compute, in this process or beside it.
Beside its own loop, while that has few calls, it waits much less."""
PAUSE = 10.0
"""Seconds for which it then wakes like any other thread."""
_WEIGHT = 0.1  # of the newest wait in the moving average


class Courtesy:
    """Of one thread, which calls `sleeps` and `woken` round a wait.

    Only the wait has the policy: what the thread runs, and what that starts, has its own one. One
    that an operator chose for the process stays.
    """

    def __init__(self) -> None:
        self._possible: bool | None = None
        self._waits = 0.0  # seconds, on average
        self._pause_ends = 0.0

    def sleeps(self) -> None:
        """The thread is about to wait."""
        if sys.platform != "linux" or self._possible is False:
            return
        if time.monotonic() >= self._pause_ends:
            self._wake_as(os.SCHED_BATCH)

    def woken(self, asked: float) -> None:
        """The thread was woken, and runs.

        Args:
            asked: when it was to run (`time.monotonic`).
        """
        if sys.platform != "linux" or not self._possible:
            return
        now = time.monotonic()
        if now < self._pause_ends:
            return
        self._wake_as(os.SCHED_OTHER)
        self._waits += _WEIGHT * (now - asked - self._waits)
        if self._waits > LATE:
            self._waits = 0.0
            self._pause_ends = now + PAUSE

    def _wake_as(self, policy: int) -> None:
        if sys.platform != "linux":
            return
        try:
            if self._possible is None:
                self._possible = os.sched_getscheduler(0) == os.SCHED_OTHER
            if self._possible:
                os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError:  # a sandbox that has no scheduling
            self._possible = False
