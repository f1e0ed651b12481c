"""The command line of each benchmark."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Protocol

from rich.console import Console

from benchmarks.harness.environments import ROOT
from benchmarks.harness.report import Report, show
from capacity.progress import Progress

RESULTS = ROOT / ".bench" / "results"
ROUNDS = 5


class Benchmark(Protocol):
    """What a module of a benchmark calls `BENCHMARK`."""

    @property
    def name(self) -> str: ...

    def run(self, rounds: int, progress: Progress) -> Report: ...


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What every benchmark can be told, `rounds` and `results`, and what `parser` has already.

    From then on SIGTERM ends the servers and the load too, as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians are of so many rounds")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="directory for the JSON files"
    )
    return parser.parse_args()


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
    given = parse(parser)
    run(benchmark, given.rounds, given.results, terminal())
