"""What the chart promises of a cluster that cannot be had here, as far as the manifests say it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ray.scripts.scripts import start

from rayrtc.settings import Settings
from tests.kubernetes.chart import (
    CASES,
    environment,
    install,
    needs_helm,
    rendered,
    templates,
    the,
)
from workers.ray_node import FAULT_DETECTION, HEAD_AWAITED, HEAD_AWAITED_JOINED

pytestmark = [needs_helm, pytest.mark.xdist_group("kubernetes")]

AFTER_THE_DRAIN = 20.0
"""Seconds beyond RAYRTC_DRAIN_TIMEOUT that docs/operations.md asks for."""


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def policies(case: str) -> list[dict[str, Any]]:
    return [each["spec"] for each in rendered(case) if each["kind"] == "NetworkPolicy"]


def pods_let_in(case: str, part: str, protocol: str, port: int | str) -> set[str]:
    """The parts whose pods may connect to a port of a part."""
    pods = templates(case)
    found: set[str] = set()
    for policy in policies(case):
        if not matches(policy["podSelector"]["matchLabels"], pods[part]["metadata"]["labels"]):
            continue
        for rule in policy["ingress"]:
            if not any(opens(each, protocol, port) for each in rule["ports"]):
                continue
            for peer in rule.get("from", [{"podSelector": {"matchLabels": {}}}]):
                if set(peer) != {"podSelector"}:
                    continue
                wanted = peer["podSelector"]["matchLabels"]
                found |= {p for p in pods if matches(wanted, pods[p]["metadata"]["labels"])}
    return found


def opens(allowed: dict[str, Any], protocol: str, port: int | str) -> bool:
    first = allowed.get("port", port)
    if allowed["protocol"] != protocol:
        return False
    if isinstance(first, str) or isinstance(port, str):
        return first == port
    return first <= port <= allowed.get("endPort", first)


def test_only_our_own_pods_reach_the_workers_internal_servers() -> None:
    assert pods_let_in("defaults", "workers cpu", "TCP", 41234) == {
        "control-plane",
        "ray-head",
        "workers cpu",
    }
    assert pods_let_in("defaults", "ray-head", "TCP", 6379) == {"workers cpu"}
    # Ray may put the pool's supervisor on the head
    assert pods_let_in("defaults", "redis", "TCP", "redis") == {
        "control-plane",
        "ray-head",
        "workers cpu",
    }
    others = [
        rule
        for policy in policies("defaults")
        if policy["podSelector"]["matchLabels"]["rayrtc/part"] == "workers"
        for rule in policy["ingress"]
        if not any("podSelector" in peer for peer in rule["from"])
    ]
    assert [rule["ports"] for rule in others] == [
        [{"protocol": "TCP", "port": "metrics"}],
        [{"protocol": "UDP", "port": 40000, "endPort": 40015}],
    ]


def test_every_pod_has_a_policy() -> None:
    selected = [policy["podSelector"]["matchLabels"] for policy in policies("gpu")]
    for part, pod in templates("gpu").items():
        assert sum(matches(each, pod["metadata"]["labels"]) for each in selected) == 1, part
    assert all(policy["policyTypes"] == ["Ingress"] for policy in policies("gpu"))
    assert not policies("nothing that can be left out")


def test_workers_with_the_nodes_network_are_let_in_by_their_nodes_addresses() -> None:
    """Such pods are not found by their labels."""
    for name in ("-ray-head", "-redis"):
        policy = the("addresses of the nodes", "NetworkPolicy", name)["spec"]
        blocks = [p["ipBlock"]["cidr"] for p in policy["ingress"][0]["from"] if "ipBlock" in p]
        assert blocks == ["10.0.0.0/16", "fd00::/64"]


@pytest.mark.parametrize("case", CASES)
def test_the_grace_period_outlasts_the_drain(case: str) -> None:
    for part, pod in templates(case).items():
        if part.startswith("workers"):
            variables = environment(pod)
            stop = float(variables.get("RAYRTC_STOP_TIMEOUT", Settings().stop_timeout))
            needed = float(variables["RAYRTC_DRAIN_TIMEOUT"]) + AFTER_THE_DRAIN
            needed += stop - Settings().stop_timeout
            assert pod["spec"]["terminationGracePeriodSeconds"] >= needed


def test_a_group_asks_for_what_ray_is_told_it_has() -> None:
    groups = the("all the rest", "RayCluster")["spec"]["workerGroupSpecs"]
    variables = environment(templates("all the rest")["workers cpu"])
    told = json.loads(variables["RAY_OVERRIDE_RESOURCES"])
    assert told == {"CPU": 2, "desk": 2}
    assert {name: float(amount) for name, amount in groups[0]["resources"].items()} == told


def test_ray_pods_have_the_commands_of_the_chart_and_somebody_who_reaps() -> None:
    cluster = the("defaults", "RayCluster")
    assert cluster["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
    pods = templates("defaults")
    for part in ("ray-head", "workers cpu"):
        assert pods[part]["spec"]["shareProcessNamespace"] is True
        (container,) = pods[part]["spec"]["containers"]
        # else KubeRay adds probes that ask Ray's dashboard
        assert {"livenessProbe", "readinessProbe"} <= set(container)
    head = environment(pods["ray-head"])
    assert FAULT_DETECTION.items() <= head.items()
    assert environment(pods["workers cpu"])[HEAD_AWAITED] == HEAD_AWAITED_JOINED
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["spec"]["autoscalerOptions"]["version"] == "v2"


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("control-plane", ["rayrtc", "control-plane", "app:stream"]),
        ("workers cpu", ["rayrtc", "workers", "app:stream"]),
    ],
)
def test_the_service_itself_gets_sigterm(part: str, arguments: list[str], tmp_path: Path) -> None:
    """A shell in between would keep it for itself, and calls would be cut."""
    assert ran_in_place(part, "rayrtc", tmp_path) == arguments


def test_the_head_runs_kuberays_command_with_options_that_ray_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = the("all the rest", "RayCluster")["spec"]["headGroupSpec"]["rayStartParams"]
    parameters = {
        **given,
        # what KubeRay adds
        "block": "",
        "dashboard-agent-listen-port": "52365",
        "dashboard-host": "0.0.0.0",
        "memory": "2147483648",
        "metrics-export-port": "8080",
        "no-monitor": "",
        "redis-password": "$REDIS_PASSWORD",
    }
    options = " ".join(f"--{k}={v}" if v else f"--{k}" for k, v in parameters.items())
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", f"ray start --head {options}")
    monkeypatch.setenv("REDIS_PASSWORD", "word")
    program, command, *arguments = ran_in_place("ray-head", "ray", tmp_path)
    assert (program, command) == ("ray", "start")
    taken = start.make_context("start", arguments).params
    assert taken["head"]
    assert taken["num_cpus"] == 0
    assert taken["include_dashboard"] is False
    assert taken["include_log_monitor"] is False
    assert taken["redis_password"] == "word"


def ran_in_place(part: str, program: str, folder: Path) -> list[str]:
    """Run a container's command with a stand-in for a program; what this was run as, if it has
    taken the place of the container's first process."""
    stand_in = folder / program
    stand_in.write_text('#!/bin/sh\necho $$ "${0##*/}" "$@"\n')
    stand_in.chmod(0o755)
    (container,) = templates("defaults")[part]["spec"]["containers"]
    with subprocess.Popen(
        [*container["command"], *container.get("args", [])],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told, _ = process.communicate(timeout=10)
    pid, *arguments = told.split()
    assert int(pid) == process.pid
    return arguments


def test_what_is_scaled_by_others_has_no_number_of_its_own() -> None:
    """An upgrade of the release would set it back, and so end calls."""
    assert "replicas" not in the("production", "Deployment")["spec"]
    assert the("defaults", "Deployment", "-control-plane")["spec"]["replicas"] == 2
    assert "replicas" not in the("production", "RayCluster")["spec"]["workerGroupSpecs"][0]
    without = the("nothing that can be left out", "RayCluster")["spec"]
    assert without["workerGroupSpecs"][0]["replicas"] == 1
    assert "autoscalerOptions" not in without


def test_workers_on_the_nodes_network_exclude_each_other() -> None:
    pod = templates("addresses of the nodes")["workers cpu"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    # a port of the container is one of the node then: the scheduler places no second pod there
    assert pod["containers"][0]["ports"][0]["containerPort"] == 9464
    assert "hostNetwork" not in templates("turn")["workers cpu"]["spec"]


def test_event_streams_and_websockets_outlast_the_proxies() -> None:
    annotations = the("production", "Ingress")["metadata"]["annotations"]
    silence = float(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert silence > 2 * Settings().sse_heartbeat
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    closed, everything = the("gateway", "HTTPRoute")["spec"]["rules"]
    assert "backendRefs" not in closed
    assert everything["timeouts"] == {"request": "0s", "backendRequest": "0s"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "Calls\nare answered and never connect"),
        (("--values", "production"), "Let nothing but UDP\n40000-40015"),
    ],
)
def test_notes_say_what_is_missing(options: tuple[str, ...], told: str) -> None:
    ran = install("--dry-run=client", *options)
    assert ran.returncode == 0, ran.stderr
    assert told in ran.stdout
