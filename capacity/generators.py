"""The processes that make the load, as the command sees them: one load, spread evenly."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Self

from pydantic import BaseModel, ValidationError

from capacity.protocol import Calls, Command, Reply, Sample, Target
from rayrtc.descendants import die_with_parent

START_TIMEOUT = 60.0
SETUP_TIMEOUT = 90.0
"""Seconds beyond those that the rate asks for, for the last calls to be made or given up."""
EVALUATION_TIMEOUT = 120.0
"""Seconds for what was measured to be looked at."""
STOP_TIMEOUT = 15.0
"""Seconds for a process to end its calls."""
LINE_MAX = 2**24
"""Bytes of an answer."""


class GeneratorFailed(Exception):
    """A process ended early, or does not answer; the text says what it said last."""


class Generators:
    """Processes with calls to `target`. To be entered; leaving it ends all calls and processes."""

    def __init__(self, target: Target, processes: int) -> None:
        self._target = target
        self._number = processes
        self._processes: list[asyncio.subprocess.Process] = []
        self._live: list[int] = [0] * processes

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._number):
                self._processes.append(await self._start())
            async with asyncio.timeout(START_TIMEOUT), asyncio.TaskGroup() as tasks:
                for at in range(self._number):
                    tasks.create_task(self._answer(at, None))
        except BaseException as error:
            await self.close()
            raise _plain(error) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "capacity.generator"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_MAX,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        _write(process, self._target)
        return process

    async def close(self) -> None:
        """End all calls and processes; those that do not end in time are killed."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        waiting = [asyncio.create_task(process.wait()) for process in self._processes]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_TIMEOUT)
        for process in self._processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*waiting)

    async def set_calls(self, wanted: int, rate: float, tell: Callable[[int], None]) -> Calls:
        """Have `wanted` calls in all; `tell` is given their number when it changes.

        Args:
            rate: calls a second that are begun.

        Raises:
            GeneratorFailed
        """
        every = self._number / rate
        shares = [
            wanted // self._number + (at < wanted % self._number) for at in range(self._number)
        ]

        def on_live(at: int, live: int) -> None:
            self._live[at] = live
            tell(sum(self._live))

        new = max(0, wanted - sum(self._live))
        replies = await self._all(
            [Command(calls=share, every=every) for share in shares],
            new / rate + SETUP_TIMEOUT,
            on_live,
        )
        made = [reply.calls for reply in replies if reply.calls is not None]
        self._live = [calls.live for calls in made]
        return Calls(
            live=sum(self._live),
            answer=[seconds for calls in made for seconds in calls.answer],
            media=[seconds for calls in made for seconds in calls.media],
            failed=_sum(calls.failed for calls in made),
            ended=_sum(calls.ended for calls in made),
            full=next((calls.full for calls in made if calls.full), ""),
        )

    async def measure(self, seconds: float) -> Sample:
        """What all calls go through for so long; of the processes the slowest one's figures.

        Raises:
            GeneratorFailed
        """
        command = Command(measure=seconds)
        replies = await self._all([command] * self._number, seconds + EVALUATION_TIMEOUT)
        samples = [reply.sample for reply in replies if reply.sample is not None]
        return Sample(
            calls=[call for sample in samples for call in sample.calls],
            round_trips=[trip for sample in samples for trip in sample.round_trips],
            ended=_sum(sample.ended for sample in samples),
            late=max(sample.late for sample in samples),
            cpu=max(sample.cpu for sample in samples),
            machine=max(sample.machine for sample in samples),
        )

    async def _all(
        self,
        commands: list[Command],
        timeout: float,
        on_live: Callable[[int, int], None] | None = None,
    ) -> list[Reply]:
        """Have each process do its command; their answers."""
        for process, command in zip(self._processes, commands, strict=True):
            _write(process, command)
        try:
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as tasks:
                answers = [
                    tasks.create_task(self._answer(at, on_live)) for at in range(self._number)
                ]
        except Exception as error:
            raise _plain(error) from None
        return [answer.result() for answer in answers]

    async def _answer(self, at: int, on_live: Callable[[int, int], None] | None) -> Reply:
        """The next answer of a process that is more than how far it is."""
        output = self._processes[at].stdout
        assert output is not None
        while line := await output.readline():
            try:
                reply = Reply.model_validate_json(line)
            except ValidationError:
                raise GeneratorFailed(f"a load process said {line[:200]!r}") from None
            if reply.error is not None:
                raise GeneratorFailed(f"a load process failed: {reply.error}")
            if reply.live is None:
                return reply
            if on_live is not None:
                on_live(at, reply.live)
        raise GeneratorFailed("a load process ended early")


def _write(process: asyncio.subprocess.Process, line: BaseModel) -> None:
    assert process.stdin is not None
    process.stdin.write(line.model_dump_json().encode() + b"\n")


def _plain(error: BaseException) -> BaseException:
    """The one that matters of a group; a timeout as what it means here."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return GeneratorFailed("a load process does not answer")
    return error


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts of all processes together."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)
