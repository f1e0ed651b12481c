"""What the chart names is in the code: settings, ports, paths, metrics, versions."""

import inspect
import json
import re
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

import rayrtc
from control_plane.app import create_app
from rayrtc.cluster.redis import RedisPools
from rayrtc.loader import load
from rayrtc.settings import Settings
from tests.kubernetes.chart import (
    CASES,
    CHART,
    DEPLOY,
    NAMESPACE,
    environment,
    needs_helm,
    rendered,
    templates,
    the,
)
from tests.metrics_table import documented
from workers.metrics import NodeMetrics
from workers.ray_node import FAULT_DETECTION, HEAD_AWAITED

pytestmark = [needs_helm, pytest.mark.xdist_group("kubernetes")]

ROOT = DEPLOY.parents[1]
OF_RAY = {
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_OVERRIDE_RESOURCES",
    HEAD_AWAITED,
}
"""Ray's own, by the names of docker-compose.yml and docs/operations.md."""
SECRETS = {"redis_url", "cluster_secret", "turn_secret", "twilio_auth_token"}
METRICS = {row.name for row in documented()}


def ours(case: str) -> dict[str, dict[str, Any]]:
    return {part: pod for part, pod in templates(case).items() if part != "redis"}


@pytest.mark.parametrize("case", CASES)
def test_environment_names_are_settings(case: str) -> None:
    known = {f"RAYRTC_{name.upper()}" for name in Settings.model_fields} | {"REDIS_PASSWORD"}
    for part, pod in ours(case).items():
        used = set(environment(pod))
        if part == "ray-head":
            assert used - set(FAULT_DETECTION) <= OF_RAY
        else:
            assert used <= known | OF_RAY
            assert {"RAYRTC_REDIS_URL", "RAYRTC_CLUSTER_SECRET"} <= used


@pytest.mark.parametrize("case", CASES)
def test_environment_values_are_ones_that_the_settings_take(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in ours(case).values():
        with monkeypatch.context() as set_here:
            for name, value in environment(pod).items():
                if isinstance(value, str):
                    set_here.setenv(name, value)
                elif name == "RAYRTC_ADVERTISED_HOSTS":
                    assert value == {"fieldRef": {"fieldPath": "status.hostIP"}}
                else:
                    assert set(value) == {"secretKeyRef"}
                    set_here.setenv(name, f"redis://{'s' * 16}")
            Settings()


def test_the_two_services_and_ray_share_their_secrets() -> None:
    control_plane, workers = (
        environment(ours("defaults")[part]) for part in ("control-plane", "workers cpu")
    )
    head = environment(ours("defaults")["ray-head"])
    (autoscaler,) = [
        each["valueFrom"]
        for each in the("defaults", "RayCluster")["spec"]["autoscalerOptions"]["env"]
        if each["name"] == "RAY_AUTH_TOKEN"
    ]
    for name in ("RAYRTC_REDIS_URL", "RAYRTC_CLUSTER_SECRET"):
        assert control_plane[name] == workers[name]
    assert head["RAY_AUTH_TOKEN"] == workers["RAY_AUTH_TOKEN"] == autoscaler
    made = {e["metadata"]["name"]: e["data"] for e in rendered("defaults") if e["kind"] == "Secret"}
    for variables in (control_plane, workers, head):
        for value in variables.values():
            if isinstance(value, dict):
                assert value["secretKeyRef"]["key"] in made[value["secretKeyRef"]["name"]]


def test_values_offer_all_settings_but_those_that_the_chart_sets() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    offered = set(schema["$defs"]["settings"]["propertyNames"]["enum"])
    source = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    by_chart = {name.lower() for name in re.findall(r"RAYRTC_([A-Z_]+[A-Z])", source)}
    by_chart -= {"stop_timeout"}  # named in a comment
    assert by_chart | offered == set(Settings.model_fields)
    assert not by_chart & offered
    assert by_chart >= SECRETS


def test_ports() -> None:
    defaults = Settings()
    control_plane = ours("production")["control-plane"]["spec"]["containers"][0]
    assert control_plane["ports"] == [{"name": "http", "containerPort": defaults.port}]
    assert environment(ours("production")["control-plane"])["RAYRTC_PORT"] == str(defaults.port)
    service = the("production", "Service", "-control-plane")
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    pod = ours("production")["workers cpu"]
    ports = pod["spec"]["containers"][0]["ports"]
    assert ports == [{"name": "metrics", "containerPort": defaults.metrics_port}]
    assert environment(pod)["RAYRTC_METRICS_PORT"] == str(defaults.metrics_port)


def test_workers_find_the_head_by_the_name_that_kuberay_gives_its_service() -> None:
    name = the("defaults", "RayCluster")["metadata"]["name"]
    (port,) = ours("defaults")["ray-head"]["spec"]["containers"][0]["ports"]
    address = environment(ours("defaults")["workers cpu"])["RAYRTC_RAY_ADDRESS"]
    assert address == f"{name}-head-svc.{NAMESPACE}.svc:{port['containerPort']}"


def test_probe_paths_are_routes() -> None:
    app = create_app(load("examples.echo:stream"), Settings(cluster_secret="s" * 16))
    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    node = set(re.findall(r'add_get\("([^"]+)"', inspect.getsource(NodeMetrics.start)))
    for part, routes in (("control-plane", paths), ("workers cpu", node)):
        (container,) = ours("defaults")[part]["spec"]["containers"]
        probes = [
            container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
        ]
        assert {probe["path"] for probe in probes} <= routes
        names = {port["name"] for port in container["ports"]}
        assert {probe["port"] for probe in probes} <= names
    for route in ("/metrics", "/readyz"):
        assert route in paths
    assert "/metrics" in node
    ingress = the("production", "Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert [(path["path"], path["pathType"]) for path in ingress] == [
        ("/metrics", "Exact"),
        ("/", "Prefix"),
    ]


def test_metrics_that_scale_exist() -> None:
    scaled = the("production", "HorizontalPodAutoscaler")["spec"]["metrics"]
    by_hpa = {m[m["type"].lower()]["metric"]["name"] for m in scaled}
    triggers = the("keda", "ScaledObject")["spec"]["triggers"]
    by_keda = set(re.findall(r"rayrtc_\w+", json.dumps(triggers)))
    assert by_hpa == by_keda
    assert by_hpa <= METRICS
    adapter = (DEPLOY / "prometheus-adapter.yaml").read_text()
    patterns = re.findall(r"rayrtc_[\w()|]+", adapter)
    assert all(any(re.fullmatch(p, name) for p in patterns) for name in by_hpa)
    assert yaml.load(adapter, Loader=yaml.CSafeLoader)["rules"]


def test_targets_have_the_job_names_of_the_alerts() -> None:
    monitors = [each for each in rendered("production") if each["kind"] == "PodMonitor"]
    jobs = {
        endpoint["relabelings"][0]["replacement"]
        for monitor in monitors
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
    }
    rules = the("production", "PrometheusRule")["spec"]
    (expression,) = re.findall(r'up\{job=~"([^"]+)"\}', json.dumps(rules).replace('\\"', '"'))
    assert jobs == set(expression.split("|"))
    for monitor in monitors:
        selected = monitor["spec"]["selector"]["matchLabels"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        pods = [
            pod
            for pod in templates("production").values()
            if selected.items() <= pod["metadata"]["labels"].items()
        ]
        assert pods
        for pod in pods:
            ports = pod["spec"]["containers"][0]["ports"]
            assert endpoint["port"] in [port["name"] for port in ports]


def test_rules_and_dashboard_are_those_of_compose() -> None:
    rules = yaml.load((ROOT / "deploy/prometheus/rules.yml").read_text(), Loader=yaml.CSafeLoader)
    assert the("production", "PrometheusRule")["spec"] == rules
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/rayrtc.json").read_text())
    config = the("production", "ConfigMap", "-dashboard")
    assert json.loads(config["data"]["rayrtc.json"]) == dashboard


def test_versions_are_those_of_the_image() -> None:
    chart = yaml.load((CHART / "Chart.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert chart["appVersion"] == rayrtc.__version__
    (ray,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert the("defaults", "RayCluster")["spec"]["rayVersion"] == ray
    assert "useradd --uid 10001 " in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_a_redis_url_says_user_password_tls_and_its_authority() -> None:
    """As values.yaml describes them; Sentinels are in `tests/cluster/test_sentinel.py`."""
    url = "rediss://calls:word@redis.example:6380/2?ssl_ca_certs=/etc/rayrtc/redis/ca.crt"
    options = RedisPools(Settings(redis_url=url)).commands.connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == "/etc/rayrtc/redis/ca.crt"
    assert (options["username"], options["password"]) == ("calls", "word")
    assert (options["host"], options["port"], options["db"]) == ("redis.example", 6380, 2)
    for part in (
        "control-plane",
        "ray-head",
        "workers cpu",
    ):  # the pool's supervisor is on any node
        mounts = ours("production")[part]["spec"]["containers"][0]["volumeMounts"]
        assert "/etc/rayrtc/redis" in [mount["mountPath"] for mount in mounts]
