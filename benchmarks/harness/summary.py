"""The results as Markdown, for docs/benchmarks.md: demands first, then the figures behind them."""

from collections.abc import Iterable, Sequence

from benchmarks.harness.report import Figure, Report, Series, shown

DETAILS = (
    "CPU of role",
    "load generator",
    "added by calls, ",
    "without a call, ",
    "unshared memory",
)
"""Beginnings of names of figures that stand in the JSON files alone."""


def markdown(reports: Iterable[Report]) -> str:
    """Two tables and the machine of the last report."""
    reports = sorted(reports, key=lambda report: report.began)
    if not reports:
        return ""
    lines = ["| benchmark | demand | measured | |", "|---|---|---|---|"]
    for report in reports:
        for bar in report.bars:
            measured = "did not keep up" if bar.measured is None else shown(bar.measured)
            verdict = "met" if bar.met else "**missed**"
            lines.append(f"| `{report.benchmark}` | {bar.demand} | {measured} | {verdict} |")
    lines += ["", "| benchmark, rounds | figure | calls | systems |", "|---|---|---|---|"]
    for report in reports:
        label = f"`{report.benchmark}`, {report.rounds}"
        for figure in report.figures:
            if figure.name.startswith(DETAILS):
                continue
            for row in _rows(figure):
                lines.append(f"| {label} | {row}")
                label = ""
        lines += [f"| | {note} | | |" for note in report.notes]
    machine = reports[-1].machine
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    lines += [
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.memory:.0f} GiB, "
        f"{machine.system}, Python {machine.python}, {versions}; {reports[-1].began:%Y-%m-%d}.",
    ]
    return "\n".join(lines) + "\n"


def _rows(figure: Figure) -> Iterable[str]:
    by_load: dict[int, list[Series]] = {}
    for series in figure.series:
        by_load.setdefault(series.connections, []).append(series)
    name = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
    for connections, measured in by_load.items():
        yield f"{name} | {connections or ''} | {'; '.join(_cells(measured))} |"
        name = ""


def _cells(measured: Sequence[Series]) -> Iterable[str]:
    for series in measured:
        spread = series.spread()
        yield (
            f"{series.system} {shown(spread.median)} ({shown(spread.low)} .. {shown(spread.high)})"
        )
