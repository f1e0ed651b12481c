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
    end = time.process_time() + 0.3
    began = time.monotonic()
    while time.process_time() < end:
        pass
    share = 0.3 / (time.monotonic() - began)
    assert meter.load_and_lag()[0] == pytest.approx(share, abs=0.15)
    time.sleep(0.3)
    assert meter.load_and_lag()[0] < 0.2


def test_others_in_the_cgroup_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 0\n")
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    time.sleep(0.2)
    (tmp_path / "cpu.stat").write_text("usage_usec 10000000\n")
    assert meter.load_and_lag()[0] == 1.0


async def test_a_late_event_loop_is_loaded(tmp_path: Path) -> None:
    meter = LoadMeter(cgroup=CgroupCPU(tmp_path))
    running = asyncio.create_task(meter.run())
    for _ in range(4):
        await asyncio.sleep(0.08)
        time.sleep(0.1)  # noqa: ASYNC251 - the lateness under test
    load, lag = meter.load_and_lag()
    running.cancel()
    assert lag > 0.02
    assert load == 1.0
