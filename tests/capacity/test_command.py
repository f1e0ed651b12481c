"""Broken, an operator would wait for minutes and then read a traceback, or get no plot."""

from pathlib import Path

import pytest

from capacity import plot
from capacity.bench import Options
from capacity.command import BenchError, bench
from capacity.protocol import Calls, CallSample, Sample, Target
from capacity.quality import Bounds, Quality
from capacity.report import Report, Step
from rayrtc.free_port import free_port


@pytest.fixture
def nobody() -> Options:
    """A test of a deployment that is not there."""
    target = Target(url=f"http://127.0.0.1:{free_port()}")
    return Options(target, Bounds(), step=1, most=1, rate=1, hold=3, processes=1)


def test_a_missing_library_is_told_before_anything_is_measured(
    nobody: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plot, "available", lambda: False)
    with pytest.raises(BenchError, match="cannot be reached"):
        bench(nobody, tmp_path, as_json=False)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "no plot: matplotlib is not installed (pip install 'rayrtc[bench]')"


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    nobody: Options, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="cannot be written"):
        bench(nobody, tmp_path / "file" / "output", as_json=False)


@pytest.mark.parametrize("echo", [True, False])
def test_a_plot_is_drawn_of_whatever_was_measured(tmp_path: Path, echo: bool) -> None:
    report = Report.of(Target(url="http://h", echo=echo), Bounds(), 10, 1)
    for calls in (10, 20, 20):
        sample = Sample(calls=[CallSample(lost_back=0.0 if echo else None)])
        made = Calls(live=calls, media=[0.05] if calls == 10 else [])
        quality = Quality.of(calls, made, sample)
        report.steps.append(Step(quality=quality, broken=[], verdict="carried"))
    plot.draw(report, tmp_path / "capacity.png")
    assert (tmp_path / "capacity.png").stat().st_size > 10_000
