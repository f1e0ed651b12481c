"""What `rayrtc bench` found: as a model for JSON, and as a table for the terminal."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import BaseModel, Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from capacity.arrivals import LATE
from capacity.protocol import Target
from capacity.quality import Bounds, Quality
from rayrtc import __version__


class Step(BaseModel):
    """One step of the ramp."""

    quality: Quality
    broken: list[str]
    """Bounds that were broken, each as a phrase."""
    verdict: str


class Report(BaseModel):
    """A whole test."""

    url: str
    transport: str
    media: bool
    echo: bool
    bounds: Bounds
    hold: float
    """Seconds for which each step was measured."""
    processes: int
    steps: list[Step] = []
    capacity: int = 0
    """The most calls that were carried within the bounds."""
    lower_bound: bool = False
    """Whether it may carry more: nothing of it was the limit."""
    ended: str = ""
    """Why the test ended."""
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    version: str = __version__

    @classmethod
    def of(cls, target: Target, bounds: Bounds, hold: float, processes: int) -> "Report":
        """An empty one."""
        # no headers: they are credentials
        return cls(
            url=target.url,
            transport=target.transport,
            media=target.media,
            echo=target.echo,
            bounds=bounds,
            hold=hold,
            processes=processes,
        )

    @property
    def conclusion(self) -> str:
        """The capacity in one line."""
        least = "at least " if self.lower_bound else ""
        return f"capacity: {least}{self.capacity} calls ({self.ended})"

    @property
    def remarks(self) -> list[str]:
        """What the figures do not tell."""
        if self.echo:
            return []
        if self.media:
            told = "the handler's media is no echo: the round trip is not measured"
        else:
            told = (
                "the handler sends nothing back: round trip and the way back are not measured, "
                "and offer to media is until media can flow"
            )
        return [told]


def show(report: Report, console: Console) -> None:
    """Print the table and what follows from it."""
    table = Table(box=SIMPLE_HEAD, caption_justify="left", caption=CAPTION)
    for name in ("calls", *(name for name, _ in COLUMNS)):
        table.add_column(name, justify="right")
    table.add_column("")
    for step in report.steps:
        quality = step.quality
        cells = [cell(quality) for _, cell in COLUMNS]
        reasons = "; ".join(step.broken)
        verdict = f"{step.verdict}: {reasons}" if reasons else step.verdict
        table.add_row(str(quality.calls), *cells, verdict)
    console.print(table)
    for remark in report.remarks:
        console.print(remark, soft_wrap=True)
    console.print(report.conclusion, style="bold", soft_wrap=True)


def _times(p50: float | None, p99: float | None) -> str:
    if p50 is None or p99 is None:
        return "-"
    return f"{_milliseconds(p50)} / {_milliseconds(p99)}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f}"


COLUMNS: tuple[tuple[str, Callable[[Quality], str]], ...] = (
    ("answer", lambda q: _times(q.answer_p50, q.answer_p99)),
    ("media", lambda q: _times(q.media_p50, q.media_p99)),
    ("lost up %", lambda q: _percent(q.lost_up)),
    ("lost back %", lambda q: _percent(q.lost_back)),
    ("late %", lambda q: _percent(q.late)),
    ("gap", lambda q: _milliseconds(q.gap)),
    ("round trip", lambda q: _times(q.round_trip_p50, q.round_trip_p99)),
    ("load late", lambda q: _milliseconds(q.generator_late)),
    ("load CPU %", lambda q: f"{q.generator_cpu * 100:.0f} / {q.generator_machine * 100:.0f}"),
)
"""Names and cells of the table, from a `Quality`."""
CAPTION = (
    "Times in ms, p50 / p99. answer, media: from the offer, of the calls that were new. lost, "
    f"late (by more than {LATE * 1000:.0f} ms) and gap between packets: of the call in 100 that "
    "had it worst. load: the processes that made the calls: how late the slowest one sent, "
    "and CPU of the busiest one, of a core / all that its machine did."
)
