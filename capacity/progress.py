"""What a benchmark is doing, on the terminal; a line for each step where there is none."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Shown while it is entered. It refreshes once a second, as it runs beside what is measured."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=1,
            transient=True,
        )
        self._task = self._bars.add_task("", total=1.0)
        self._last = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def tell(self, what: str, done: float | None = None) -> None:
        """Say what goes on.

        Args:
            what: a line.
            done: share of the benchmark, 0 to 1; None leaves it.
        """
        if self._console.is_terminal:
            self._bars.update(self._task, description=what, completed=done)
        else:
            self._console.print(what, soft_wrap=True)

    def step(self, what: str, step: str, done: float | None = None) -> None:
        """Say which step of `what` goes on, in a terminal only; `done` as for `tell`."""
        self._bars.update(self._task, description=f"{what} {step}", completed=done)
