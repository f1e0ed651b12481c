"""The command line of each benchmark."""

import argparse
from pathlib import Path
from typing import Protocol

from rich.console import Console

from benchmarks.harness.environments import ROOT
from benchmarks.harness.progress import Progress
from benchmarks.harness.report import Report, show

RESULTS = ROOT / ".bench" / "results"
ROUNDS = 5


class Benchmark(Protocol):
    """What a module of a benchmark calls `BENCHMARK`."""

    @property
    def name(self) -> str: ...

    def run(self, rounds: int, progress: Progress) -> Report: ...


def options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark can be told."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians are of so many rounds")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="directory for the JSON files"
    )


def terminal() -> Console:
    """Wide enough for the tables also where output goes to a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def run(benchmark: Benchmark, rounds: int, results: Path, console: Console) -> Report:
    """Run a benchmark, print its table and write its JSON file."""
    with Progress(console) as progress:
        report = benchmark.run(rounds, progress)
    show(report, console)
    path = report.write(results)
    console.print(f"  {path}", style="dim", soft_wrap=True)
    return report


def run_alone(benchmark: Benchmark, description: str | None) -> None:
    """`python -m benchmarks.NAME`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options(parser)
    given = parser.parse_args()
    run(benchmark, given.rounds, given.results, terminal())
