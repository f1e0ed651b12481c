"""The tables of docs/metrics.md."""

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(rayrtc_\w+)` \| (\w+) \|([\w, ]*)\| (.+) \|$", re.MULTILINE)


class Described(NamedTuple):
    """A metric by its name as Prometheus shows it, its type and its labels."""

    name: str
    type: str
    labels: tuple[str, ...]


def documented() -> list[Described]:
    """Each row."""
    return [
        Described(name, type, tuple(labels.replace(",", "").split()))
        for name, type, labels, _ in ROW.findall(DOCS.read_text())
    ]
