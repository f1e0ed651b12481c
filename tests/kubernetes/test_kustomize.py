"""The base for Kustomize is the chart."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.kubernetes.chart import DEPLOY, HELM, KUBECTL, PROGRAMS, objects, rendered

TIMEOUT = 60.0


@pytest.mark.skipif(
    HELM is None or KUBECTL is None,
    reason="helm or kubectl is not on the PATH; make test installs them on Linux x86-64",
)
def test_kustomize_makes_the_objects_of_the_chart(tmp_path: Path) -> None:
    # Kustomize before 5.8.1, which kubectl has, asks for Helm 3 by an option that Helm 4 lacks
    helm = tmp_path / "helm"
    helm.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo v3.18.0 || exec {HELM} "$@"\n')
    helm.chmod(0o755)
    made = subprocess.run(
        [str(KUBECTL), "kustomize", "--enable-helm", str(DEPLOY)],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{PROGRAMS}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert made.returncode == 0, made.stderr

    def named(each: dict[str, object]) -> str:
        metadata = each["metadata"]
        assert isinstance(metadata, dict)
        return f"{each['kind']} {metadata['name']}"

    expected = {named(each): each for each in rendered("production")}
    assert {named(each): each for each in objects(made.stdout)} == expected
