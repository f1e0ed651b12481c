"""Asks Prometheus what the dashboard's panels and the alerts ask it: each has to find something.

A query of a metric that never appears is no better than one that is missing: its panel is empty
and its alert silent for ever.
"""

import json
import math
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
RULES = ROOT / "deploy/prometheus/rules.yml"

RATE_INTERVAL = "1m"
"""What Grafana puts in place of `$__rate_interval` at the scrape interval that it assumes."""
RANGE = 60
STEP = 15
"""Seconds that a panel shows here, and between two of its points."""

SELECTOR = re.compile(r'(?<![\w:])(?:rayrtc_\w+|up\b)\s*(?:\{(?:[^}"]|"[^"]*")*\})?')
COMPARISON = re.compile(r"^(.*\S)\s*(?:==|!=|>=|<=|>|<)\s*-?[\d.]+$", re.DOTALL)
WORDS = {"sum", "max", "by", "rate", "increase", "histogram_quantile"}
"""What alerts have beside selectors, labels and numbers."""

Ask = Callable[[str], Any]
"""Gets the JSON that a URL's path and query below Prometheus' own are answered with."""


def panels() -> list[tuple[str, str]]:
    """Title and expression of each query of each dashboard."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL))
        for path in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def alerts() -> list[tuple[str, str]]:
    """Name and expression of each alert."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [(rule["alert"], rule["expr"].strip()) for group in groups for rule in group["rules"]]


def operands(expression: str) -> list[str]:
    """What an alert compares, without the comparisons, and each selector in it.

    An alert that is quiet has no result of its own.
    """
    found = []
    for part in re.split(r"\s+or\s+", expression):
        compared = COMPARISON.match(part)
        assert compared, f"does not end with a comparison with a number: {part}"
        selectors = SELECTOR.findall(part)
        rest = re.sub(r"by \([^)]*\)", "by", SELECTOR.sub("", part))
        rest = re.sub(r"\[\w+\]", "", rest)
        unknown = set(re.findall(r"[A-Za-z_]\w*", rest)) - WORDS
        assert not unknown, f"metrics that are not looked for in {part}: {unknown}"
        found += [compared[1], *selectors]
    return found


def value(ask: Ask, expression: str) -> str:
    """What is wrong with the answer to an instant query; empty when it has a number."""
    query = urllib.parse.urlencode({"query": expression})
    result = ask(f"/api/v1/query?{query}")["data"]["result"]
    return _judged([series["value"] for series in result])


def values(ask: Ask, expression: str) -> str:
    """The same of a query over a time, as panels make it: its last points count."""
    now = time.time()
    query = urllib.parse.urlencode(
        {"query": expression, "start": now - RANGE, "end": now, "step": STEP}
    )
    result = ask(f"/api/v1/query_range?{query}")["data"]["result"]
    return _judged([series["values"][-1] for series in result])


def _judged(points: Iterable[tuple[float, str]]) -> str:
    numbers = [float(number) for _, number in points]
    if not numbers:
        return "nothing is found"
    if any(map(math.isnan, numbers)):
        return f"not all of {numbers} are numbers"
    return ""


def failures(prometheus: Ask, grafana: Ask) -> list[str]:
    """Every query that finds nothing or no number; the panels' are asked through Grafana."""
    found = []
    for title, expression in panels():
        if wrong := values(grafana, expression):
            found.append(f"panel {title!r}: {expression}: {wrong}")
    for name, expression in alerts():
        for operand in operands(expression):
            if wrong := value(prometheus, operand):
                found.append(f"alert {name}: {operand}: {wrong}")
    return found
