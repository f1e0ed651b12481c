"""Broken, `make bench` would miss a benchmark, or the documentation one of them."""

import importlib
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_runs_by_its_name_and_is_described(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.BENCHMARK.name == name
    assert f"python -m benchmarks.{name}" in module.__doc__
    assert f"`{name}`" in DOCUMENT.read_text()
