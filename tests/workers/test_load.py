"""The load decides which worker gets a call: a wrong number sends callers to the busiest one."""

import asyncio
import time
from pathlib import Path

import pytest

from workers.load import CgroupCPU, LoadMeter


def test_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    assert CgroupCPU(tmp_path).quota() == 1.5
    assert CgroupCPU(tmp_path).used() == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert CgroupCPU(tmp_path).quota() is None


def test_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpuacct").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpuacct" / "cpuacct.usage").write_text("3000000000\n")
    assert CgroupCPU(tmp_path).quota() == 0.5
    assert CgroupCPU(tmp_path).used() == 3.0
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert CgroupCPU(tmp_path).quota() is None


def test_without_a_cgroup(tmp_path: Path) -> None:
    assert CgroupCPU(tmp_path).quota() is None
    assert CgroupCPU(tmp_path).used() is None


def test_a_busy_process_is_loaded(tmp_path: Path) -> None:
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    end = time.process_time() + 0.5
    began = time.monotonic()
    while time.process_time() < end:
        pass
    share = 0.5 / (time.monotonic() - began)
    assert meter.measure().load == pytest.approx(share, abs=0.15)
    time.sleep(0.5)
    assert meter.measure().load < 0.2


def test_others_in_the_cgroup_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 0\n")
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    time.sleep(0.5)
    (tmp_path / "cpu.stat").write_text("usage_usec 10000000\n")
    assert meter.measure().load == 1.0


async def test_a_late_event_loop_is_loaded(tmp_path: Path) -> None:
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    running = asyncio.create_task(meter.run())
    for _ in range(4):
        await asyncio.sleep(0.08)
        time.sleep(0.1)  # noqa: ASYNC251 - the lateness under test
    load, lag, _ = meter.measure()
    running.cancel()
    assert lag > 0.02
    assert load == 1.0


def test_what_a_worker_does_before_its_first_call_is_no_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new worker would be avoided, and all calls sent to those that have them already."""
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    seconds, cpu, group = meter._last
    for after, load in ((0.3, 0.0), (0.5, 1.0)):
        usage = (seconds + after, cpu + after, group)
        monkeypatch.setattr(meter, "_usage", lambda usage=usage: usage)
        assert meter.measure().load == load


def test_memory_counts(tmp_path: Path) -> None:
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    half = LoadMeter(memory_max=2 * meter.memory(), cgroup=CgroupCPU(tmp_path))
    time.sleep(0.5)
    assert half.measure().load == pytest.approx(0.5, abs=0.1)


def test_a_worker_is_busy_above_its_threshold_for_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = LoadMeter(busy_above=0.6, cgroup=CgroupCPU(tmp_path))
    now = 0.0

    def second(lag: float) -> bool:
        nonlocal now
        now += 1.0
        meter.record(lag)
        return meter.measure().busy

    monkeypatch.setattr(meter, "_usage", lambda: (now, 0.0, None))
    meter._last = (0.0, 0.0, None)
    assert not any(second(0.016) for _ in range(3)), "a peak"
    assert [second(0.016) for _ in range(10)][-1], "0.8 for longer"
    assert second(0.011), "just below: not yet"
    assert not [second(0.0) for _ in range(10)][-1]
