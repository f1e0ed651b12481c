"""How busy a worker is: CPU and memory against what it may use, and how late its loop runs."""

import asyncio
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import psutil

CGROUP = Path("/sys/fs/cgroup")
LAG_FULL = 0.020
"""Seconds of event-loop lag that count as full: one audio frame."""
SAMPLE_INTERVAL = 0.1
"""Seconds between two looks at the event loop."""
MEASURE_MIN = 0.4
"""Least seconds that a load is measured over: what came before a worker's first call, or a short
peak between two renewals, says nothing."""
AVERAGED = 5.0
"""Seconds that `busy` looks back: the time constant of a moving average."""
HYSTERESIS = 0.1
"""How far the average must have fallen below the threshold for a busy worker to take calls."""


class Load(NamedTuple):
    """What a worker says of itself in its lease."""

    load: float
    """0 idle to 1 full: the largest of its CPU, its memory, and its lag over 20 ms."""
    lag: float
    """Mean lag of the event loop, seconds."""
    busy: bool
    """Whether it should take no more calls."""


class CgroupCPU:
    """The CPU quota and use of the control group this process is in (cgroup v2, else v1)."""

    def __init__(self, root: Path = CGROUP) -> None:
        self._root = root

    def quota(self) -> float | None:
        """CPUs that the group may use, None when that is not limited."""
        try:
            if (limit := self._read("cpu.max")) is not None:
                quota, period = limit.split()
                return None if quota == "max" else int(quota) / int(period)
            quota_v1 = self._read("cpu/cpu.cfs_quota_us")
            period_v1 = self._read("cpu/cpu.cfs_period_us")
            if quota_v1 is None or period_v1 is None or int(quota_v1) <= 0:
                return None
            return int(quota_v1) / int(period_v1)
        except ValueError:
            return None

    def used(self) -> float | None:
        """CPU seconds that the group has used, None when it does not say."""
        try:
            if (stat := self._read("cpu.stat")) is not None:
                for line in stat.splitlines():
                    if line.startswith("usage_usec "):
                        return int(line.split()[1]) / 1e6
            usage = self._read("cpuacct/cpuacct.usage")
            return None if usage is None else int(usage) / 1e9
        except ValueError:
            return None

    def _read(self, name: str) -> str | None:
        try:
            return (self._root / name).read_text().strip()
        except OSError:
            return None


class LoadMeter:
    """Load of this process as its lease has it.

    Args:
        cpus: CPUs this process may fill; one GIL fills one.
        memory_max: bytes that it may use.
        busy_above: average of CPU and lag above which it is busy; 1 is never.
        cgroup: the control group to look at.
    """

    def __init__(
        self,
        cpus: float = 1.0,
        memory_max: float = math.inf,
        busy_above: float = 1.0,
        cgroup: CgroupCPU | None = None,
    ) -> None:
        self._cgroup = cgroup or CgroupCPU()
        self._quota = self._cgroup.quota()
        available = self._quota or float(os.cpu_count() or 1)
        self._cpus = min(max(1.0, cpus), available)
        self._process = psutil.Process()
        self._last = self._usage()
        self._lags: list[float] = []
        self._memory_max = memory_max
        self._busy_above = busy_above
        self._measured = Load(0.0, 0.0, False)
        self._average = 0.0

    async def run(self) -> None:
        """Measure the event loop's lag, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_INTERVAL
            await asyncio.sleep(SAMPLE_INTERVAL)
            self.record(loop.time() - due)

    def record(self, lag: float) -> None:
        """Take one sample of the lag, in seconds. Only those since the last report count."""
        if len(self._lags) < 600:  # a minute; `load` is asked for every second
            self._lags.append(max(0.0, lag))

    def measure(self) -> Load:
        """The load since the last call; right after that, the same again."""
        now = self._usage()
        wall = now[0] - self._last[0]
        if wall < MEASURE_MIN:
            return self._measured
        share = (now[1] - self._last[1]) / wall / self._cpus
        if self._quota and now[2] is not None and self._last[2] is not None:
            # others in the group can use up the quota: then this process is throttled too
            share = max(share, (now[2] - self._last[2]) / wall / self._quota)
        lag = sum(self._lags) / len(self._lags) if self._lags else 0.0
        effort = min(1.0, max(0.0, share, lag / LAG_FULL))
        load = min(1.0, max(effort, self.memory() / self._memory_max))
        self._last = now
        self._lags.clear()
        # not of memory, which does not go down: the pool replaces a worker that uses too much
        self._average += (effort - self._average) * -math.expm1(-wall / AVERAGED)
        threshold = self._busy_above - (HYSTERESIS if self._measured.busy else 0.0)
        self._measured = Load(round(load, 3), round(lag, 4), self._average > threshold)
        return self._measured

    def memory(self) -> int:
        """Resident bytes of this process."""
        return int(self._process.memory_info().rss)

    def _usage(self) -> tuple[float, float, float | None]:
        times = self._process.cpu_times()
        return time.monotonic(), times.user + times.system, self._cgroup.used()
