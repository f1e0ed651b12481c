"""One service of `rayrtc dev` as a child process: started, watched, started again, stopped.

A service that ends by itself is started again after 0.5, 1, 2, 4, 8 s. It fails, and everything
with it, when it ends before it was ready once, or five times in a row within a minute of its start.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rayrtc import events
from rayrtc.descendants import die_with_parent

HEALTHY_AFTER = 60.0
"""Seconds after which a service's end is no longer counted together with the one before."""
DEATHS_MAX = 5
BACKOFF = 0.5
BACKOFF_MAX = 8.0
POLL = 0.1
"""Seconds between two questions whether a service is ready."""
LINE_MAX = 1 << 20
"""Bytes of one line of output; a longer one is passed on in pieces."""


class ServiceFailed(Exception):
    """A service cannot be kept running; the text says which and why."""


class ServiceProcess:
    """A command that is kept running.

    Args:
        name: what the user reads.
        command: program and arguments.
        environment: of the process, complete.
        is_ready: asked again and again whether the service is ready; None: it writes the event
            `ready` when it is.
        start_timeout: seconds until it must be ready.
        stop_timeout: seconds it may take to end after `stop_signal`.
        stop_signal: what it gets to end by itself.
        death_signal: what it gets when the guardian dies (Linux).
        after_end: called after each end but the one of `stop`, to clear what it left.
        await_change: after an end before it was ready, start it again at the next reload only: the
            new code is at fault. Not when somebody else killed it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
        start_timeout: float,
        stop_timeout: float,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGTERM,
        after_end: Callable[[], None] = lambda: None,
        await_change: bool = False,
    ) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}
        """What the service's last `ready` event told."""
        self.first_ready = asyncio.Event()
        self._command = command
        self._environment = environment
        self._is_ready = is_ready
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._after_end = after_end
        self._await_change = await_change
        self._process: asyncio.subprocess.Process | None = None
        self._ready_event = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._error = ""

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def keep(self) -> None:
        """Run it until `stop`.

        Raises:
            ServiceFailed: it never became ready, or dies again and again.
        """
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            self._changed.clear()
            status = await self._run_once(started)
            if self._stopping.is_set():
                return
            self._after_end()
            if self._changed.is_set():
                continue  # it was asked to end
            why = self._error or f"it ended with {_told(status)}"
            if not self.first_ready.is_set():
                raise ServiceFailed(f"{self.name} could not start: {why}")
            killed = status == -signal.SIGKILL and not self._error
            if self._await_change and not self._ready_event.is_set() and not killed:
                events.write("restart", name=self.name, text=f"{why}; waiting for a change")
                await self._changed.wait()
                continue
            deaths = 1 if time.monotonic() - started > HEALTHY_AFTER else deaths + 1
            if deaths >= DEATHS_MAX:
                raise ServiceFailed(f"{self.name} died {deaths} times in a row: {why}")
            events.write("restart", name=self.name, text=f"{why}; starting it again")
            await asyncio.sleep(min(BACKOFF * 2 ** (deaths - 1), BACKOFF_MAX))

    async def _run_once(self, started: float) -> int:
        """Start it and wait for its end; it is killed when it is not ready in time."""
        self._ready_event.clear()
        self._error = ""
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_MAX,
            preexec_fn=die_with_parent(self._death_signal),
        )
        assert process.stdout is not None
        if self._stopping.is_set():
            process.kill()
        listening = asyncio.create_task(self._listen(process.stdout), name=f"{self.name} output")
        ready = asyncio.create_task(self._become_ready(started), name=f"{self.name} ready")
        ended = asyncio.create_task(process.wait(), name=f"{self.name} end")
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is not None:
                self._error = self._error or f"not ready after {self._start_timeout:g} s"
                process.kill()
            status = await ended
            # What it said at last may be why it ended.
            await asyncio.wait({listening}, timeout=1.0)
            return status
        finally:
            for task in (listening, ready, ended):
                task.cancel()
            await asyncio.gather(listening, ready, ended, return_exceptions=True)

    async def _become_ready(self, started: float) -> None:
        async with asyncio.timeout(self._start_timeout):
            if self._is_ready is not None:
                while not await self._is_ready():  # noqa: ASYNC110 - another process, no event tells
                    await asyncio.sleep(POLL)
                self._ready_event.set()
            await self._ready_event.wait()
        events.write("step", name=self.name, seconds=time.monotonic() - started)
        self.first_ready.set()

    async def _listen(self, stdout: asyncio.StreamReader) -> None:
        """Take its events; pass on everything else that it or its children print."""
        while True:
            try:
                line = await stdout.readuntil()
            except asyncio.LimitOverrunError as overrun:
                line = await stdout.readexactly(overrun.consumed)
            except asyncio.IncompleteReadError as end:
                line = end.partial
                if not line:
                    return
            event = events.parse(line)
            if event is None:
                try:
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()
                except OSError:
                    pass  # the command is gone, and its terminal with it
                continue
            match event.pop("event"):
                case "ready":
                    self.facts = event
                    self._ready_event.set()
                case "error":
                    self._error = str(event.get("text"))
                case kind:
                    events.write(kind, **event)

    def reload(self, sig: signal.Signals) -> None:
        """Send `sig`: SIGTERM ends it and it is started again at once."""
        self._changed.set()
        self.send(sig)

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(sig)

    async def stop(self, at_once: asyncio.Event) -> None:
        """`stop_signal`, and SIGKILL after `stop_timeout` or when `at_once` is set."""
        self._stopping.set()
        self._changed.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.send(self._stop_signal)
        ended = asyncio.create_task(process.wait())
        hurry = asyncio.create_task(at_once.wait())
        await asyncio.wait(
            {ended, hurry}, timeout=self._stop_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        hurry.cancel()
        if not ended.done():
            self.send(signal.SIGKILL)
        await asyncio.wait({ended}, timeout=1.0)
        ended.cancel()


def _told(status: int) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def python_command(*arguments: str) -> list[str]:
    """The command line for another process of this installation."""
    return [sys.executable, "-m", *arguments]


def inherited(**changes: str) -> dict[str, str]:
    """This process' environment with `changes`."""
    return {**os.environ, **changes}
