"""Draws the results: `python benchmarks/plots.py DIRECTORY`, in the environment with matplotlib.

For each JSON file of the directory a PNG beside it: bars of the cost, or lines against the number
of connections where it was measured at several.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"rayrtc": "tab:blue", "fastrtc": "tab:orange", "aiortc": "tab:green"}
COST = "CPU of the media process"


def lines(axes: Any, series: list[dict[str, Any]]) -> None:
    """The median against the number of connections, with the least and the most."""
    for system in dict.fromkeys(one["system"] for one in series):
        points = sorted(
            (one["connections"], one["values"]) for one in series if one["system"] == system
        )
        loads = [load for load, _ in points]
        colour = COLOURS.get(system)
        medians = [statistics.median(values) for _, values in points]
        axes.plot(loads, medians, "o-", label=system, color=colour)
        low = [min(values) for _, values in points]
        high = [max(values) for _, values in points]
        axes.fill_between(loads, low, high, alpha=0.2, color=colour)
    axes.set_xscale("log", base=2)
    ticks = sorted({one["connections"] for one in series})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("connections")
    axes.set_ylim(bottom=0)
    axes.legend()


def bars(axes: Any, series: list[dict[str, Any]]) -> None:
    """The median of each system, with the least and the most."""
    for place, one in enumerate(series):
        median = statistics.median(one["values"])
        error = [[median - min(one["values"])], [max(one["values"]) - median]]
        axes.bar(place, median, yerr=error, capsize=6, color=COLOURS.get(one["system"]))
    axes.set_xticks(
        range(len(series)), [f"{one['system']}\n{one['connections']} calls" for one in series]
    )


def day(path: Path, report: dict[str, Any]) -> None:
    """Calls and workers over a day, for each policy."""
    canvas, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for name, course in report["courses"].items():
        hours = [number / 12 for number in range(len(course))]
        axes.step(hours, [workers for _, workers in course], where="post", label=f"by {name}")
    first = next(iter(report["courses"].values()))
    filled = [calls / report["slots"] for calls, _ in first]
    axes.fill_between(hours, filled, alpha=0.3, color="grey", label="filled by calls")
    axes.set_xlabel("hour")
    axes.set_ylabel("workers")
    axes.set_ylim(bottom=0)
    axes.legend()
    canvas.savefig(path.with_suffix(".png"), dpi=120)
    plt.close(canvas)


def draw(path: Path) -> None:
    """One report's plot; nothing when it has no figure that can be drawn."""
    report = json.loads(path.read_text())
    if "courses" in report:
        day(path, report)
        return
    figures = [figure for figure in report["figures"] if figure["series"]]
    wanted = [figure for figure in figures if figure["name"] == COST] or figures[:1]
    if not wanted:
        return
    figure, series = wanted[0], wanted[0]["series"]
    canvas, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    several = len({one["connections"] for one in series}) > 1
    (lines if several else bars)(axes, series)
    axes.set_ylabel(f"{figure['name']}, {figure['unit']}")
    axes.set_title(report["title"])
    canvas.savefig(path.with_suffix(".png"), dpi=120)
    plt.close(canvas)


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        draw(path)


if __name__ == "__main__":
    main()
