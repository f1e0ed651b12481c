"""The command `rayrtc bench` behind its options: what it prints and writes, and how it ends."""

import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from capacity import plot
from capacity.bench import Options, run
from capacity.generators import GeneratorFailed
from capacity.probe import Unusable
from capacity.progress import Progress
from capacity.report import Report, show

WIDTH = 160
"""Of the table where there is no terminal."""
INTERRUPTED = "interrupted"


class BenchError(Exception):
    """There is no result; the text says why, in one line."""


def processors() -> int:
    """How many of the machine's this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bench(options: Options, output: Path, as_json: bool) -> None:
    """Run the test, print what it found, and write `capacity.json` and `capacity.png`.

    A KeyboardInterrupt ends all calls, then what was found so far is printed.

    Raises:
        BenchError: nothing was found out.
        KeyboardInterrupt: it was stopped.
    """
    terminal = Console(stderr=True, highlight=False)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{output} cannot be written: {error.strerror}") from None
    if not plot.available():
        terminal.print(
            "no plot: matplotlib is not installed (pip install 'rayrtc\\[bench]')", soft_wrap=True
        )
    reports: list[Report] = []
    stopped = False
    try:
        with Progress(terminal) as progress:
            asyncio.run(run(options, progress, reports.append))
    except (Unusable, GeneratorFailed) as error:
        if not reports or not reports[0].steps:
            raise BenchError(str(error)) from None
        reports[0].ended, reports[0].lower_bound = str(error), True
    except KeyboardInterrupt:
        stopped = True
        if not reports or not reports[0].steps:
            raise
        reports[0].ended, reports[0].lower_bound = INTERRUPTED, True
    _tell(reports[0], output, as_json, terminal)
    if stopped:
        raise KeyboardInterrupt


def _tell(report: Report, output: Path, as_json: bool, terminal: Console) -> None:
    """Print and write what was found."""
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        show(report, Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH))
    try:
        (output / "capacity.json").write_text(report.model_dump_json(indent=2) + "\n")
        written = [output / "capacity.json"]
        if plot.available():
            plot.draw(report, output / "capacity.png")
            written.append(output / "capacity.png")
    except OSError as error:
        raise BenchError(f"{output} cannot be written: {error.strerror}") from None
    terminal.print(", ".join(map(str, written)), style="dim", soft_wrap=True)
