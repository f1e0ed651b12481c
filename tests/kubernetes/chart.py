"""Renders the chart with Helm, without a cluster."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
CHART = DEPLOY / "rayrtc"
NAMESPACE = "calls"
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
HELM = shutil.which("helm", path=PROGRAMS)
KUBECTL = shutil.which("kubectl", path=PROGRAMS)
TIMEOUT = 60.0
"""Seconds for one run of Helm; it takes less than one."""

needs_helm = pytest.mark.skipif(
    HELM is None, reason="helm is not on the PATH; make test installs it on Linux x86-64"
)

CASES: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "production": ("--values", "production"),
    "gpu": ("--values", "gpu"),
    "turn": ("--values", "turn"),
    "gpu in production": ("--values", "production", "--values", "gpu"),
    "keda": ("--set", "autoscaling.type=keda"),
    "gateway": (
        *("--set", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public"),
        *("--set", "httpRoute.hostnames[0]=calls.example.org"),
    ),
    "addresses of the nodes": (
        "--set",
        "workers.network.mode=host,workers.network.advertise=hostIP,"
        "networkPolicy.nodeCIDRs[0]=10.0.0.0/16,networkPolicy.nodeCIDRs[1]=fd00::/64",
    ),
    "a file, and a Redis with its own authority": (
        *("--set-file", f"app.files.app\\.py={DEPLOY.parents[1] / 'examples' / 'echo.py'}"),
        *("--set", "redis.bundled.enabled=false,redis.external.secret=url"),
        *("--set", "redis.external.caSecret=authority"),
    ),
    "nothing that can be left out": (
        "--set",
        "networkPolicy.enabled=false,ray.autoscaler.enabled=false,controlPlane.minAvailable=null,"
        "workers.network.udpPorts=",
    ),
    "all the rest": (
        *("--set-file", f"app.files.app\\.py={DEPLOY.parents[1] / 'examples' / 'echo.py'}"),
        *("--set", "monitoring.podMonitors=true,monitoring.rules=true,monitoring.dashboard=true"),
        *("--set", "settings.payload_max=2097152,workers.settings.stop_timeout=7.5"),
        *("--set", "twilio.enabled=true,imagePullSecrets[0]=registry,fullnameOverride=voice"),
        *(
            "--set",
            "controlPlane.trustedProxies[0]=10.0.0.0/8,networkPolicy.clients[0].podSelector.matchLabels.a=b",
        ),
        *("--set", "controlPlane.tolerations[0].operator=Exists,ray.head.nodeSelector.disk=ssd"),
        *("--set", "workers.groups.cpu.rayResources.desk=2,workers.groups.cpu.image=other:1"),
        *("--set", "workers.groups.cpu.settings.worker_cpus=0.5,workers.priorityClassName=calls"),
        *("--set", "ray.faultTolerance.redisAddress=r:6379,ray.faultTolerance.redisSecret=s"),
        *("--set", "ray.faultTolerance.redisUsername=true,secret.existing=mine"),
    ),
}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller judges the exit status."""
    assert HELM is not None
    named = [
        str(DEPLOY / "values" / f"{argument}.yaml") if before == "--values" else argument
        for before, argument in zip(("", *arguments), arguments, strict=False)
    ]
    return subprocess.run(
        [HELM, *named],
        # no cluster of whoever runs this
        env={**os.environ, "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def template(*options: str) -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart."""
    return helm("template", "rayrtc", str(CHART), "--namespace", NAMESPACE, *options)


def install(*options: str) -> subprocess.CompletedProcess[str]:
    """`helm install` of the chart, to be made without a cluster by the options."""
    return helm("install", "rayrtc", str(CHART), "--namespace", NAMESPACE, *options)


@cache
def rendered(case: str) -> list[dict[str, Any]]:
    """The objects of a case."""
    ran = template(*CASES[case])
    assert ran.returncode == 0, ran.stderr
    return objects(ran.stdout)


class Strict(yaml.CSafeLoader):
    """Refuses a key that stands twice, as the API server and Kustomize do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{node.start_mark}: {keys}"
        return super().construct_mapping(node, deep)


def objects(text: str) -> list[dict[str, Any]]:
    """Those of a stream of YAML documents."""
    return [each for each in yaml.load_all(text, Loader=Strict) if each]


def the(case: str, kind: str, name: str = "") -> dict[str, Any]:
    """The one object of a kind whose name ends like this."""
    (found,) = [
        each
        for each in rendered(case)
        if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    ]
    return found


def templates(case: str) -> dict[str, dict[str, Any]]:
    """All pod templates, by the part that they are of: workers have one for each group."""
    found: dict[str, dict[str, Any]] = {}
    for each in rendered(case):
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            found[template["metadata"]["labels"]["rayrtc/part"]] = template
        elif each["kind"] == "RayCluster":
            found["ray-head"] = each["spec"]["headGroupSpec"]["template"]
            for group in each["spec"]["workerGroupSpecs"]:
                found[f"workers {group['groupName']}"] = group["template"]
    return found


def environment(template: dict[str, Any]) -> dict[str, Any]:
    """Values of a pod's only container, or where they come from."""
    (container,) = template["spec"]["containers"]
    names = [each["name"] for each in container["env"]]
    assert len(set(names)) == len(names), "each is set once"
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}
