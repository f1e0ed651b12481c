"""All benchmarks, or some: `python -m benchmarks [NAME ...] [--rounds 5]`, or `make bench`.

Prints a table for each, writes a JSON file for each and draws the plots.
"""

import argparse
import importlib
import subprocess
from pathlib import Path

from rich.console import Console

from benchmarks.harness import command
from benchmarks.harness.environments import ROOT, python_of
from benchmarks.harness.report import read_all
from benchmarks.harness.summary import markdown

NAMES = (
    "audio_async",
    "audio_sync",
    "listening_silence",
    "listening_speech",
    "idle",
    "video_flip",
    "websocket",
    "everything_else",
    "scaling",
    "two_workers",
    "loop_lag",
    "signalling",
    "inputs",
    "outputs",
    "sse_clients",
)


def draw(results: Path, console: Console) -> None:
    """The plots, by a program in an environment of its own, and all results as Markdown."""
    program = ROOT / "benchmarks" / "plots.py"
    subprocess.run([str(python_of("plots")), str(program), str(results)], check=True, timeout=120)
    (results / "summary.md").write_text(markdown(read_all(results)))
    console.print(f"Plots, JSON files and summary.md: {results}", soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    given = command.parse(parser)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    console = command.terminal()
    for environment in ("aiortc", "fastrtc", "plots"):
        console.print(f"environment {environment}")
        python_of(environment)
    failed = []
    for name in given.names or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
        try:
            command.run(benchmark, given.rounds, given.results, console)
        except (AssertionError, OSError, RuntimeError) as error:
            # a system that did not start, or a load that could not be made; the others may go well
            console.print(f"[red]{name} failed:[/] {error}", soft_wrap=True)
            failed.append(name)
    draw(given.results, console)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
