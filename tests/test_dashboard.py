"""The Grafana dashboard asks for metrics that exist, in a language that Prometheus understands."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.metrics_table import documented

GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "rayrtc.json").read_text())
PROMTOOL = shutil.which("promtool")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """All queries, as Grafana sends them for a range of an hour."""
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in panels()
        for target in panel["targets"]
    ]


def test_panels_have_a_title_an_explanation_and_a_place_of_their_own() -> None:
    assert len(panels()) > 20
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["title"] and panel["description"] for panel in panels())
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_are_about_metrics_and_labels_that_exist() -> None:
    labels = {row.name: set(row.labels) for row in documented()}
    for row in documented():
        if row.type == "histogram":
            labels[f"{row.name}_bucket"] = {*row.labels, "le"}
    for expression in expressions():
        used = set(re.findall(r"\brayrtc_\w+", expression))
        assert used, expression
        assert used <= set(labels), expression
        known = set.union(*(labels[name] for name in used))
        for names in re.findall(r"by \(([^)]*)\)", expression):
            assert {name.strip() for name in names.split(",")} <= known, expression
        for name in re.findall(r"(\w+)=~?\"", expression):
            assert name in known, expression


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is installed by make test on Debian")
def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    rules = [
        {"record": f"panel:query:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ran = subprocess.run(
        [PROMTOOL, "check", "rules", path], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_is_provisioned_with_a_source_of_its_kind() -> None:
    provisioning = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    variable = DASHBOARD["templating"]["list"][0]
    assert variable["type"] == "datasource"
    assert variable["query"] == source["type"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "rayrtc.yml").read_text())[
        "providers"
    ]
    compose = (GRAFANA.parents[1] / "docker-compose.yml").read_text()
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose
