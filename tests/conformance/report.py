"""The suite's results as two tables: calls by combination and client, and rules."""

from collections.abc import Generator
from dataclasses import dataclass, field

import pytest
from rich.console import Console
from rich.table import Table

from tests.conformance.cells import CELLS, CLIENTS, MODALITIES, MODES, TRANSPORTS, Cell

_STYLES = {"pass": "green", "refused": "cyan", "FAIL": "bold red", "skipped": "yellow"}


@dataclass
class Rule:
    """What a test says, and how each of its variants went."""

    section: str
    text: str
    results: dict[str, str] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The worst one, with the variants that it is of when others went better."""
        for worst in ("FAIL", "not run", "skipped"):
            if variants := [name for name, result in self.results.items() if result == worst]:
                some = 0 < len(variants) < len(self.results)
                return _colored(worst) + (f" {', '.join(variants)}" if some else "")
        return _colored("pass")


class Report:
    """A pytest plugin that collects results."""

    def __init__(self) -> None:
        self.cells: dict[str, str] = {}
        self.rules: dict[str, Rule] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        name, variant = _split(item.nodeid)
        if name.endswith("::test_cell") or not isinstance(item, pytest.Function):
            return
        text = _first_line(item.function.__doc__) or item.originalname.replace("_", " ")
        rule = self.rules.setdefault(name, Rule(_first_line(item.module.__doc__), text))
        rule.results[variant] = "not run"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        result = {"passed": "pass", "failed": "FAIL", "skipped": "skipped"}[report.outcome]
        name, variant = _split(report.nodeid)
        if name in self.rules:
            self.rules[name].results[variant] = result
        else:
            self.cells[variant] = result

    def pytest_terminal_summary(self) -> None:
        console = Console(width=max(120, Console().width))
        if self.cells:
            console.print(self.cell_table())
        if self.rules:
            console.print(self.rule_table())

    def cell_table(self) -> Table:
        """Transport, modality and mode against the clients. An empty field is no such call."""
        table = Table(title="Calls")
        for name in ("transport", "modality", "mode", *CLIENTS):
            table.add_column(name)
        for transport, modality, mode in _rows():
            row = [Cell(client, transport, modality, mode) for client in CLIENTS]
            table.add_row(transport, modality, mode, *map(self._field, row))
        return table

    def _field(self, cell: Cell) -> str:
        if cell not in CELLS:
            return ""
        result = self.cells.get(str(cell), "not run")
        return _colored("refused" if result == "pass" and not cell.supported else result)

    def rule_table(self) -> Table:
        """The rules by their sections."""
        table = Table(title="Rules")
        for name in ("section", "rule", "result"):
            table.add_column(name, overflow="fold")
        section = ""
        for rule in self.rules.values():
            if rule.section != section:
                table.add_section()
            shown = rule.section if rule.section != section else ""
            table.add_row(shown, rule.text, rule.result)
            section = rule.section
        return table


def _rows() -> Generator[tuple[str, str, str]]:
    for transport in TRANSPORTS:
        for modality in MODALITIES:
            for mode in MODES:
                yield transport, modality, mode


def _colored(result: str) -> str:
    style = _STYLES.get(result)
    return f"[{style}]{result}[/{style}]" if style else result


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")


def _split(nodeid: str) -> tuple[str, str]:
    """The function of a test and its variant."""
    name, _, variant = nodeid.partition("[")
    return name, variant.removesuffix("]")
