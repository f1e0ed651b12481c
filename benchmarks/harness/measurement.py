"""One measurement: a load against a running system, and what the system used meanwhile."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from benchmarks.harness.environments import ROOT
from benchmarks.harness.process_tree import cpu_between, ended_between, sample
from benchmarks.harness.systems import System
from benchmarks.load.protocol import Event, Load, Result
from rayrtc.descendants import die_with_parent

OVERHEAD = 180.0
"""Seconds at most for a load to connect, be evaluated and hang up."""


class Measurement(BaseModel):
    """What was measured in one round of one system."""

    system: str
    connections: int
    seconds: float
    cpu: dict[str, float]
    """CPU seconds by role."""
    media: float
    """Milliseconds of CPU of the media processes for each connection and second."""
    tree: float
    """The same of all processes."""
    memory: dict[str, int]
    """Resident bytes by role at the end."""
    ended: int
    """Processes that ended meanwhile."""
    load: Result

    @property
    def delivered(self) -> float:
        """Received by sent."""
        return self.load.received / max(1, self.load.sent)


class LoadFailed(RuntimeError):
    """The load could not be made; the text says why."""


def measure(system: System, load: Load, tell: Callable[[str], None]) -> Measurement:
    """Run a load; `tell` is given the name of each step.

    Raises:
        LoadFailed: the generator ended with an error, or too late.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load.generator", load.model_dump_json()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    deadline = threading.Timer(load.warmup + load.seconds + OVERHEAD, process.kill)
    deadline.start()
    before = after = None
    result: Result | None = None
    failure = "it ended early, or was too slow"
    try:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = Event.model_validate_json(line)
            except ValidationError:  # it was ended while it wrote
                failure += f"; its last line breaks off after {len(line)} characters"
                break
            match event.event:
                case "begin":
                    before = sample(system.roots())
                case "end":
                    after = sample(system.roots())
                case "result":
                    result = Result.model_validate(event.detail)
                case "error":
                    failure = str(event.detail)
            tell(event.event)
    finally:
        deadline.cancel()
        process.kill()
        process.wait(10)
    if result is None or before is None or after is None:
        raise LoadFailed(f"{system.name}, {load.connections} x {load.url}: {failure}")
    cpu = cpu_between(before, after)
    share = 1000 / load.connections / load.seconds
    return Measurement(
        system=system.name,
        connections=load.connections,
        seconds=load.seconds,
        cpu=cpu,
        media=sum(cpu.get(role, 0.0) for role in system.media_roles) * share,
        tree=sum(cpu.values()) * share,
        memory=after.memory(),
        ended=ended_between(before, after),
        load=result,
    )
