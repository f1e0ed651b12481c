"""Ends whole process trees, also what was daemonised out of them.

On Linux the process that calls `adopt_orphans` inherits every orphan below it, so that the tree
never loses a branch; elsewhere a mark in the environment and what was seen before take its place.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

import psutil

MARK = "RAYRTC_DEV_SESSION"
"""Environment variable that every process of a `rayrtc dev` inherits, with the session's name."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own. Does nothing off Linux."""
    if LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """What a child runs before exec: it gets `sig` when the thread that started it ends.

    Off Linux the child is left as it is.
    """
    parent = os.getpid()
    if not LINUX:
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # loaded here: after a fork this must not take a lock

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return before_exec


def reap_orphans(own: frozenset[int]) -> bool:
    """Take the exit status of ended orphans, so that no zombie stays; not of the children in `own`.

    True when one of `own` has ended and hides what else may have: call again when it is reaped.
    """
    if not LINUX:
        return False
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if ended is None:
            return False
        if ended.si_pid in own:
            return True
        os.waitpid(ended.si_pid, os.WNOHANG)


class Descendants:
    """Every process below this one that belongs to `session`."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._seen: set[psutil.Process] = set()

    def observe(self) -> None:
        """Remember those that are here now: off Linux, some could not be found later."""
        self._seen.update(psutil.Process().children(recursive=True))

    def find(self, keep: frozenset[int] = frozenset()) -> list[psutil.Process]:
        """All of them, without the trees whose roots are in `keep`, and without zombies."""
        self.observe()
        found = {process for process in self._seen if process.is_running()}
        self._seen = set(found)
        if not LINUX:
            found |= self._marked()
        kept = {os.getpid(), *keep}
        for pid in keep:
            try:
                kept.update(p.pid for p in psutil.Process(pid).children(recursive=True))
            except psutil.NoSuchProcess:
                continue
        return [p for p in found if p.pid not in kept and not _is_zombie(p)]

    def _marked(self) -> set[psutil.Process]:
        marked = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._session:
                    marked.add(process)
            except (psutil.Error, OSError):
                continue  # of another user, or gone
        # Our own parents carry the mark only when `rayrtc dev` was started inside another one.
        return marked - set(psutil.Process().parents())

    def kill(self, timeout: float, keep: frozenset[int] = frozenset()) -> list[psutil.Process]:
        """SIGKILL until none is left, at most `timeout` seconds; returns those that stayed."""
        deadline = time.monotonic() + timeout
        while left := self.find(keep):
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            reap_orphans(keep)
            if time.monotonic() > deadline:
                return left
            time.sleep(0.02)
        reap_orphans(keep)
        return []


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
