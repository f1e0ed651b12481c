"""CPU time and memory of a system's processes by role, as the operating system accounts them.

CPU time is user and system time in clock ticks (10 ms on Linux), so a measurement needs seconds.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psutil

Role = str
Roots = Mapping[Role, int]
"""Process ids, by the role that they and their descendants have unless `role_of` says otherwise."""

ACTORS = {"MediaWorker": "worker", "Supervisor": "supervisor"}
"""By part of the title that Ray gives their process; its own agents have such a title too."""
RAY_DAEMONS = ("gcs_server", "raylet")


def role_of(command: str, inherited: Role) -> Role:
    """The role of a process.

    Args:
        command: its command line, or the title that it gave itself.
        inherited: that of its root.
    """
    if command.startswith("ray::"):
        return next((role for actor, role in ACTORS.items() if actor in command), "ray")
    program = command.split(" ", 1)[0].rsplit("/", 1)[-1]
    if program in RAY_DAEMONS:
        return program
    if "/ray/" in command:
        return "ray"
    return inherited


@dataclass(frozen=True)
class Usage:
    """What one process had used at a moment."""

    role: Role
    cpu: float
    """Seconds."""
    resident: int
    """Bytes."""
    unique: int
    """Bytes that no other process shares."""


@dataclass
class Sample:
    """All processes of a system at a moment; the key is process id and time of creation."""

    processes: dict[tuple[int, float], Usage] = field(default_factory=dict)

    def memory(self) -> dict[Role, int]:
        """Resident bytes by role."""
        return self._sum(lambda usage: usage.resident)

    def unique_memory(self) -> dict[Role, int]:
        """Unshared bytes by role."""
        return self._sum(lambda usage: usage.unique)

    def _sum(self, of: Callable[[Usage], int]) -> dict[Role, int]:
        total: Counter[Role] = Counter()
        for usage in self.processes.values():
            total[usage.role] += of(usage)
        return dict(total)


def sample(roots: Roots) -> Sample:
    """Look at all processes at and below `roots`; one that ends meanwhile is left out."""
    taken = Sample()
    for inherited, pid in roots.items():
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                with process.oneshot():
                    command = " ".join(process.cmdline()) or process.name()
                    times = process.cpu_times()
                    resident = process.memory_info().rss
                unique = process.memory_full_info().uss
                key = (process.pid, process.create_time())
            except psutil.Error:
                continue
            taken.processes[key] = Usage(
                role_of(command, inherited),
                times.user + times.system,
                resident,
                unique,
            )
    return taken


def cpu_between(before: Sample, after: Sample) -> dict[Role, float]:
    """CPU seconds by role that were used between two samples by the processes of the second."""
    used: defaultdict[Role, float] = defaultdict(float)
    for key, now in after.processes.items():
        then = before.processes.get(key)
        used[now.role] += now.cpu - (then.cpu if then else 0.0)
    return dict(used)


def ended_between(before: Sample, after: Sample) -> int:
    """How many processes are gone, whose last CPU time is in no figure."""
    return len(before.processes.keys() - after.processes.keys())


def total(by_role: Mapping[Role, float], *, without: Iterable[Role] = ()) -> float:
    """The sum over all roles but some."""
    left_out = set(without)
    return sum(value for role, value in by_role.items() if role not in left_out)
