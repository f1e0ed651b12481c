"""What a benchmark found: as a model for JSON and as tables for the terminal."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import Machine
from benchmarks.harness.statistics import Spread


class Series(BaseModel):
    """One figure of one system at one load, a value for each round."""

    system: str
    connections: int
    values: list[float]

    def spread(self) -> Spread:
        """Over the rounds."""
        return Spread.of(self.values)


class Figure(BaseModel):
    """Something that was measured."""

    name: str
    unit: str
    series: list[Series] = []

    def add(self, system: str, connections: int, value: float) -> None:
        """Put down the value of one round; NaN is none."""
        if math.isnan(value):
            return
        for series in self.series:
            if (series.system, series.connections) == (system, connections):
                series.values.append(value)
                return
        self.series.append(Series(system=system, connections=connections, values=[value]))

    def median(self, system: str, connections: int) -> float | None:
        """Over the rounds; None when it was not measured."""
        for series in self.series:
            if (series.system, series.connections) == (system, connections):
                return series.spread().median
        return None


class Bar(BaseModel):
    """A demand and what was measured."""

    demand: str
    measured: float | None
    """None: the system did not keep up with its load, so that there is no figure."""
    limit: float
    """At most."""
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured is not None and self.measured <= self.limit


class Report(BaseModel):
    """What one benchmark found."""

    benchmark: str
    title: str
    figures: list[Figure] = []
    bars: list[Bar] = []
    notes: list[str] = []
    rounds: int = 0
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    machine: Machine = Field(default_factory=Machine.here)

    def figure(self, name: str, unit: str) -> Figure:
        """The figure of this name, which is made if it is not there."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        made = Figure(name=name, unit=unit)
        self.figures.append(made)
        return made

    def note(self, text: str) -> None:
        """Add a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def write(self, directory: Path) -> Path:
        """As `NAME.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.benchmark}.json"
        path.write_text(self.model_dump_json(indent=2) + "\n")
        return path


def show(report: Report, console: Console) -> None:
    """Print the figures, a column for each system, then the demands."""
    systems = list(dict.fromkeys(s.system for f in report.figures for s in f.series))
    console.print(f"\n[bold]{report.benchmark}[/]: {report.title}", soft_wrap=True)
    table = Table(
        caption=f"median (least .. most) of {report.rounds} rounds",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("figure")
    table.add_column("calls", justify="right")
    for system in systems:
        table.add_column(system, justify="right")
    for figure in report.figures:
        by_load: dict[int, dict[str, str]] = {}
        for series in figure.series:
            spread = series.spread()
            text = f"{shown(spread.median)} ({shown(spread.low)} .. {shown(spread.high)})"
            by_load.setdefault(series.connections, {})[series.system] = text
        label = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
        for connections, cells in by_load.items():
            values = [cells.get(system, "") for system in systems]
            table.add_row(label, str(connections) if connections else "-", *values)
            label = ""
    console.print(table)
    for bar in report.bars:
        mark = "[green]met   [/]" if bar.met else "[red]missed[/]"
        measured = "did not keep up" if bar.measured is None else shown(bar.measured)
        console.print(f"  {mark} {bar.demand}: {measured} {bar.unit}".rstrip(), soft_wrap=True)
    for note in report.notes:
        console.print(f"  {note}", style="dim", soft_wrap=True)


def shown(value: float) -> str:
    """With three significant digits, without an exponent."""
    if value != value:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.095 else 3
    return f"{value:.{digits}f}"


def read_all(directory: Path) -> Iterable[Report]:
    """The reports that were written to a directory."""
    for path in sorted(directory.glob("*.json")):
        yield Report.model_validate_json(path.read_text())
