"""Broken, a table or a verdict would say something else than what was measured."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.harness.report import Bar, Report, read_all, show, shown
from benchmarks.harness.statistics import Spread
from benchmarks.harness.summary import markdown


def test_spread_is_median_least_and_most() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)
    with pytest.raises(ValueError, match="no round"):
        Spread.of([])


def test_a_system_that_did_not_keep_up_meets_nothing() -> None:
    assert Bar(demand="", measured=0.3, limit=0.33).met
    assert not Bar(demand="", measured=0.34, limit=0.33).met
    assert not Bar(demand="", measured=None, limit=0.33).met


def test_a_report_is_written_read_and_shown(tmp_path: Path) -> None:
    report = Report(benchmark="some", title="something", rounds=2)
    for value in (10.0, 30.0, math.nan, 20.0):
        report.figure("cost", "ms").add("rayrtc", 8, value)
    report.bars.append(Bar(demand="cost <= 15 ms", measured=20.0, limit=15.0, unit="ms"))
    report.write(tmp_path)
    (read,) = read_all(tmp_path)
    assert read == report
    assert read.figure("cost", "ms").median("rayrtc", 8) == 20.0
    assert read.figure("cost", "ms").median("fastrtc", 8) is None
    console = Console(file=io.StringIO(), width=120)
    show(read, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "20.0 (10.0 .. 30.0)" in text
    assert "missed" in text


def test_results_as_markdown() -> None:
    report = Report(benchmark="some", title="something", rounds=2)
    report.figure("cost", "ms").add("rayrtc", 8, 10.0)
    report.figure("CPU of role: redis", "ms/s").add("rayrtc", 8, 3.0)
    report.bars.append(Bar(demand="cost <= 15 ms", measured=10.0, limit=15.0))
    text = markdown([report])
    assert "| `some` | cost <= 15 ms | 10.0 | met |" in text
    assert "| `some`, 2 | cost, ms | 8 | rayrtc 10.0 (10.0 .. 10.0) |" in text
    assert "redis" not in text
    assert markdown([]) == ""


def test_numbers_have_three_digits() -> None:
    assert [shown(value) for value in (0.012, 0.5, 2.345, 45.67, 1234.5)] == [
        "0.012", "0.50", "2.35", "45.7", "1234",
    ]  # fmt: skip
