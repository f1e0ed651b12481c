"""The tables of docs/metrics.md are what is exposed."""

import importlib
import pkgutil
import shutil
import subprocess
from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

import workers
from control_plane.metrics import Metrics
from tests.metrics_table import Described, documented
from workers.handler_times import ConnectionTimes, HandlerTimes
from workers.metrics import _Collected, pool_families
from workers.pool import PoolStatus

PROMTOOL = shutil.which("promtool")
STATUS = PoolStatus(
    spec="a:b",
    code_version="1",
    wanted=1,
    ready=1,
    starting=0,
    draining=0,
    replaced=0,
    slots=8,
    calls=0,
)
OF_THE_NODE = {
    ("rayrtc_node_workers_out_of_memory_total", "counter", ()),
    ("rayrtc_worker_up", "gauge", ("worker",)),
}
"""Made where a node answers (`NodeMetrics.collect`); `tests/workers/test_metrics.py` reads them."""


def import_all() -> None:
    """Every module that may define a metric of workers."""
    for module in pkgutil.iter_modules(workers.__path__):
        importlib.import_module(f"workers.{module.name}")


def described(name: str, type: str, labels: Iterable[str]) -> Described:
    suffix = "_total" if type == "counter" and not name.endswith("_total") else ""
    return Described(name + suffix, type, tuple(labels))


def of_registry(registry: CollectorRegistry) -> set[Described]:
    return {
        described(metric._name, metric._type, metric._labelnames)
        for metric in registry._collector_to_names
        if isinstance(metric, MetricWrapperBase) and metric._name.startswith("rayrtc_")
    }


def of_families(families: list[Metric]) -> set[Described]:
    return {described(f.name, f.type, f._labelnames) for f in families}


def times_of_a_call() -> list[Metric]:
    """What workers expose when a handler has been called."""
    times = HandlerTimes()
    ConnectionTimes("echo", times)["receive"].took(0.001)
    return list(times.collect())


def test_the_tables_are_what_is_exposed() -> None:
    import_all()
    exposed = (
        of_registry(REGISTRY)
        | of_registry(Metrics().registry)
        | of_families(pool_families(STATUS))
        | of_families(times_of_a_call())
        | {Described(*each) for each in OF_THE_NODE}
    )
    assert set(documented()) == exposed
    assert len(documented()) == len(exposed), "each has one row"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is installed by make test on Debian")
def test_prometheus_finds_nothing_to_improve() -> None:
    assert PROMTOOL is not None
    import_all()
    texts = [
        generate_latest(REGISTRY),
        generate_latest(Metrics().registry),
        generate_latest(_Collected(pool_families(STATUS))),
        generate_latest(_Collected(times_of_a_call())),
    ]
    for text in texts:
        checked = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=60
        )
        assert checked.returncode == 0, checked.stderr.decode()


def test_no_label_names_a_connection() -> None:
    """A label with the id of each connection would fill Prometheus' memory."""
    labels = {label for row in documented() for label in row.labels}
    assert labels <= {
        "call",
        "code",
        "direction",
        "handler",
        "kind",
        "method",
        "outcome",
        "phase",
        "reason",
        "route",
        "state",
        "stream",
        "transport",
        "worker",
    }
