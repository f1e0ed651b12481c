"""Traces cost nothing where nobody asks for them, and never keep a process from ending."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayrtc import tracing
from rayrtc.errors import ConcurrencyLimitReached, NoWorkerAvailable
from tests.otlp import Collector

ROOT = Path(__file__).parents[2]
SENDER = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp", "opentelemetry.proto")
"""What the extra is for. FastAPI imports OpenTelemetry's API, and Ray what is for metrics."""


@pytest.fixture(autouse=True)
def _stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in tracing.environment():
        monkeypatch.delenv(name)
    yield
    tracing.stop()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_imported_unless_traces_are_wanted(environment: dict[str, str]) -> None:
    code = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
import control_plane.serve, workers.connections, workers.worker
from rayrtc import tracing
tracing.start("test")
with tracing.span("one") as span, tracing.continued({"traceparent": "x"}):
    span.event("event", number=1)
    assert span is tracing.NOTHING
    assert tracing.headers() == {}
print("modules", *sys.modules)
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**kept, **environment},
    )
    (said,) = done.stdout.splitlines()
    assert not [module for module in said.split() if module.startswith(SENDER)]
    assert done.stderr == ""


def test_without_the_extra_there_is_no_warning(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.INFO):
        tracing.start("test")
    assert tracing.begin("one") is tracing.NOTHING
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "rayrtc[otel]" in record.message


def test_another_protocol_is_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    tracing.start("test")
    assert tracing.begin("one") is tracing.NOTHING
    assert "http/protobuf" in caplog.text


def test_spans_arrive_with_parents_events_and_failures(collector: Collector) -> None:
    tracing.start("test", service_instance_id="w1")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    started: list[tracing.Span] = []

    def fail() -> None:
        with (
            tracing.continued({"traceparent": parent}),
            tracing.span("outer", "server", stream="echo") as outer,
        ):
            outer.event("reserved", worker_id="w1")
            assert tracing.headers()["traceparent"].split("-")[1] == parent.split("-")[1]
            with pytest.raises(ConcurrencyLimitReached), tracing.span("inner", "client"):
                raise ConcurrencyLimitReached(1)
            started.append(tracing.begin("later"))
            raise NoWorkerAvailable

    with pytest.raises(NoWorkerAvailable):
        fail()
    started[0].end()
    tracing.stop()
    spans = collector.of(parent.split("-")[1])
    outer_, inner, after = spans["outer"], spans["inner"], spans["later"]
    assert (outer_.service, outer_.instance, outer_.parent) == ("test", "w1", "b7ad6b7169203331")
    assert outer_.attributes["rayrtc.stream"] == "echo"
    assert outer_.attributes["error.type"] == "no_worker_available"
    assert outer_.events == [("reserved", {"rayrtc.worker_id": "w1"})]
    assert inner.parent == after.parent == outer_.id
    assert (outer_.failed, inner.failed, after.failed) == (True, False, False)
    assert inner.attributes["rayrtc.refusal"] == "concurrency_limit_reached"


def test_the_environment_names_the_service(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    tracing.start("test")
    tracing.begin("one").end()
    tracing.stop()
    assert [span.service for span in collector.spans] == ["mine"]


def test_a_collector_that_hangs_does_not_hold_up_the_end(collector: Collector) -> None:
    collector.silent = True
    tracing.start("test")
    for number in range(5000):  # more than the queue holds
        tracing.begin("one", number=number).end()
    began = time.monotonic()
    tracing.stop(0.5)
    assert time.monotonic() - began < 5  # its requests may take 10 s


def test_an_application_with_traces_of_its_own_keeps_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spans are the parents of ours, and go where it says."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    tracing.start("test")
    given: Any = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with (
        provider.get_tracer("app").start_as_current_span("request") as request,
        tracing.continued(given),
        tracing.span("offer", "server"),
    ):
        pass
    ours, theirs = exporter.get_finished_spans()
    assert (ours.name, theirs.name) == ("offer", "request")
    assert ours.parent is not None
    assert ours.parent.span_id == request.get_span_context().span_id
    assert ours.kind is trace.SpanKind.INTERNAL
    tracing.stop()
    assert not collector.spans
