"""Every object is what its schema says: Kubernetes' own kinds and custom resources."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.kubernetes.chart import CASES, CHART, helm, needs_helm, rendered, template, templates

pytestmark = [needs_helm, pytest.mark.xdist_group("kubernetes")]

CRDS = Path(__file__).parent / "crds"
UNCHECKED = {"HTTPRoute"}
"""Of the Gateway API, whose schemas are not here."""
VERSIONS = ("1.31", "1.33")


@cache
def custom_kinds() -> dict[tuple[str, str], Draft202012Validator]:
    """Validators by apiVersion and kind."""
    found: dict[tuple[str, str], Draft202012Validator] = {}
    for path in CRDS.glob("*.yaml.gz"):
        spec = yaml.load(gzip.decompress(path.read_bytes()), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[key] = Draft202012Validator(schema)
    return found


def closed(schema: Any) -> Any:
    """The same schema, refusing fields that it does not name: an API server drops them."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(value) for name, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def check(each: dict[str, Any]) -> None:
    key = (each["apiVersion"], each["kind"])
    if key in custom_kinds():
        errors = sorted(custom_kinds()[key].iter_errors(each), key=str)
        assert not errors, [f"{e.json_path}: {e.message}" for e in errors]
    elif each["kind"] not in UNCHECKED:
        for version in VERSIONS:
            kubernetes_validate.validate(each, version, strict=True)


def test_lint_has_no_complaints() -> None:
    ran = helm("lint", "--strict", str(CHART))
    assert ran.returncode == 0, ran.stdout
    assert "[WARNING]" not in ran.stdout
    assert "[ERROR]" not in ran.stdout


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_valid(case: str) -> None:
    objects = rendered(case)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    for each in objects:
        check(each)


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_valid_and_confined(case: str) -> None:
    """Also those that KubeRay makes."""
    for part, pod in templates(case).items():
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod["spec"]})
        assert pod["spec"]["securityContext"]["runAsNonRoot"], part
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001, "the user of the Dockerfile"
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            if part in ("control-plane", "redis"):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "Service", "spec": {"porst": []}},
        {"kind": "Service", "spec": {"ports": [{"port": "http"}]}},
    ],
)
def test_the_check_of_core_kinds_finds_mistakes(wrong: dict[str, Any]) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        check({"apiVersion": "v1", "metadata": {"name": "a"}, **wrong})


def test_the_check_of_custom_kinds_finds_mistakes() -> None:
    wrong = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"}}
    for spec in ({}, {"headGroupSpec": {"template": {}}, "workersGroupSpecs": []}):
        with pytest.raises(AssertionError):
            check({**wrong, "spec": spec})


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("settings.slotz=1", "slotz"),
        ("settings.redis_url=redis://a", "redis_url"),  # the chart sets it
        ("controlPlane.replicas=two", "replicas"),
        ("workers.network.udpPorts=all", "udpPorts"),
        ("redis.bundled.enabled=false", "redis.external.secret is needed"),
        ("workers.network.mode=host", "networkPolicy.nodeCIDRs is needed"),
        ("workers.network.advertise=hostIP", "is for workers.network.mode: host"),
        ("httpRoute.enabled=true", "httpRoute.parentRefs is needed"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_reason(option: str, told: str) -> None:
    ran = template("--set", option)
    assert ran.returncode != 0
    assert told in ran.stderr


def test_every_value_is_in_the_schema_and_documented() -> None:
    values = yaml.load((CHART / "values.yaml").read_text(), Loader=yaml.CSafeLoader)
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    for name, part in schema["properties"].items():
        if part.get("properties") and part.get("additionalProperties") is False:
            assert set(part["properties"]) == set(values[name]), name
    for path in (CHART.parent / "values").glob("*.yaml"):
        assert path.read_text().startswith("# "), "says what it is for"
