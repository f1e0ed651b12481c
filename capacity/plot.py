"""The plot of a test. Matplotlib is an extra: `pip install 'rayrtc[bench]'`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from capacity.report import Report, Step

GOOD, BAD = "tab:blue", "tab:red"


def available() -> bool:
    """Whether a plot can be drawn here."""
    return find_spec("matplotlib") is not None


def draw(report: Report, path: Path) -> None:
    """What callers went through against their number, with the bounds, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    canvas, (setup, trips, loss) = plt.subplots(
        3, sharex=True, figsize=(7, 8), layout="constrained"
    )
    steps = sorted(report.steps, key=lambda step: step.quality.calls)
    bounds = report.bounds
    _lines(setup, steps, {"p50": "media_p50", "p99": "media_p99"}, 1000, bounds.setup)
    setup.set_ylabel("offer to media, ms")
    _lines(
        trips, steps, {"p50": "round_trip_p50", "p99": "round_trip_p99"}, 1000, bounds.round_trip
    )
    trips.set_ylabel("round trip, ms")
    _lines(loss, steps, {"up": "lost_up", "back, with late": "lost"}, 100, bounds.loss)
    loss.set_ylabel("lost, %")
    loss.set_xlabel("calls")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (setup, trips, loss):
        axes.axvline(report.capacity, color="grey", linestyle=":")
    setup.set_title(f"{report.url}\n{report.conclusion}", fontsize="medium", wrap=True)
    canvas.savefig(path, dpi=120)
    plt.close(canvas)


def _lines(axes: Any, steps: list[Step], names: dict[str, str], factor: int, bound: float) -> None:
    """Figures of the steps against their calls; red where a bound was broken."""
    for label, name in names.items():
        points = [
            (step.quality.calls, value * factor, BAD if step.broken else GOOD)
            for step in steps
            if (value := getattr(step.quality, name)) is not None
        ]
        if not points:
            continue
        calls, values, colours = zip(*points, strict=True)
        style = "-" if label == "p50" or label == "up" else "--"
        axes.plot(calls, values, style, color=GOOD, label=label, linewidth=1)
        axes.scatter(calls, values, color=colours, zorder=3, s=18)
    axes.axhline(bound * factor, color="grey", linewidth=1, label="bound")
    axes.set_ylim(bottom=0)
    axes.legend()
