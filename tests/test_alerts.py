"""The alerts, their pages in docs/runbooks.md, and the metrics and settings that they name."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayrtc.settings import Settings
from tests.compose import queries
from tests.metrics_table import documented

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
PROMTOOL = shutil.which("promtool")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE) == names
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        page = alert["annotations"]["runbook"]
        assert page == f"docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]


def test_alerts_are_about_metrics_that_exist() -> None:
    exposed = {row.name for row in documented()} | {"up"}
    for row in documented():
        if row.type == "histogram":
            exposed |= {row.name + suffix for suffix in ("_bucket", "_sum", "_count")}
    for alert in alerts():
        expression = re.sub(r"\{[^}]*\}", "", alert["expr"])
        used = set(re.findall(r"\b(?:rayrtc_\w+|up)\b", expression))
        assert used, alert["alert"]
        assert used <= exposed, alert["alert"]


def test_the_check_of_compose_knows_all_that_alerts_look_at() -> None:
    """It asks a live Prometheus for each of these."""
    taken_apart = {name: queries.operands(expression) for name, expression in queries.alerts()}
    assert taken_apart.keys() == {alert["alert"] for alert in alerts()}
    assert taken_apart["RayRTCTargetDown"] == ['up{job=~"control-plane|workers"}'] * 2
    assert taken_apart["RayRTCNoRoom"][1:] == [
        'rayrtc_slots{state="total"}',
        'rayrtc_slots{state="used"}',
        'rayrtc_slots{state="reserved"}',
    ]
    with pytest.raises(AssertionError, match="not looked for"):
        queries.operands("max(node_load1) > 3")


def test_runbooks_name_settings_that_exist() -> None:
    known = {f"RAYRTC_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"RAYRTC_[A-Z_]+", RUNBOOKS)) <= known


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is installed by make test on Debian")
@pytest.mark.parametrize(
    "command", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")]
)
def test_prometheus_takes_the_rules(command: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run(
        [PROMTOOL, *command], cwd=RULES, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_tested() -> None:
    tested = (RULES / "rules_test.yml").read_text()
    for alert in alerts():
        assert f'alertname="{alert["alert"]}"' in tested, alert["alert"]
