"""A thread that, once woken, lets the one that woke it finish, while the processors are not busy.

The loop wakes a handler's thread while it has the GIL. Linux often runs the woken thread at once,
in place of the loop: it finds the GIL taken and goes to sleep again, two switches for nothing, for
each frame. With the policy SCHED_BATCH (sched(7)) it runs when the loop has ended its turn. On a
processor that others keep busy it would wait for them as well, which sound cannot do for long: a
thread that is late on average gives the policy up for a while.
"""

import os
import sys
import time

LATE = 0.001
"""Seconds that a woken thread waits on average when others keep the processors busy. Beside its own
loop alone it waits a twentieth of that."""
PAUSE = 10.0
"""Seconds for which it then wakes like any other thread."""
_WEIGHT = 0.1  # of the newest wait in the moving average


class Courtesy:
    """The policy of the one thread that calls it, unless an operator chose one. What the thread
    starts inherits it. Its share of the processors is always the same."""

    def __init__(self) -> None:
        self._policy: int | None = None
        self._waits = 0.0  # seconds, on average
        self._pause_ends = 0.0

    def woken(self, asked: float) -> None:
        """The thread was woken, and runs.

        Args:
            asked: when it was to run (`time.monotonic`).
        """
        if sys.platform != "linux":
            return
        if self._policy is None:
            self._policy = os.sched_getscheduler(0)
        if self._policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
            return
        now = time.monotonic()
        self._waits += _WEIGHT * (now - asked - self._waits)
        if self._waits > LATE:
            self._waits = 0.0
            self._pause_ends = now + PAUSE
        policy = os.SCHED_OTHER if now < self._pause_ends else os.SCHED_BATCH
        if policy != self._policy:
            self._policy = policy
            try:
                os.sched_setscheduler(0, policy, os.sched_param(0))
            except OSError:
                pass  # a sandbox that has no scheduling
