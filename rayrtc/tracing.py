"""Traces of how a client gets connected, over both services, by OpenTelemetry.

Nothing is imported, and nothing is done, unless the environment has
`OTEL_EXPORTER_OTLP_ENDPOINT` (or `_TRACES_ENDPOINT`) and the extra `rayrtc[otel]` is installed. The
variables are OpenTelemetry's own:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. What is to be
sent waits in a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`); beyond that it is dropped.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rayrtc import log_fields
from rayrtc.errors import RayRTCError

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OpenTelemetrySpan
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables, one of which says where traces go."""
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
"""The one way of OTLP that is spoken here."""
PREFIX = "OTEL_"
"""Of OpenTelemetry's variables."""
STOP_TIMEOUT = 2.0
"""Seconds that a process which ends tries to send what waits."""

Kind = Literal["internal", "server", "client"]


class Span(Protocol):
    """A part of a trace. Attributes are strings and numbers; their names begin with `rayrtc.`."""

    def set(self, **attributes: Any) -> None:
        """Set attributes."""

    def event(self, name: str, **attributes: Any) -> None:
        """Note something that happened at this moment."""

    def fail(self, why: str) -> None:
        """It did not come to its aim."""

    def end(self) -> None:
        """It is over. Once only; those of `span` end by themselves."""


class _Nothing:
    """A span where there are no traces."""

    def set(self, **attributes: Any) -> None:
        pass

    def event(self, name: str, **attributes: Any) -> None:
        pass

    def fail(self, why: str) -> None:
        pass

    def end(self) -> None:
        pass


NOTHING: Span = _Nothing()


class _Recorded:
    """A span that is sent."""

    def __init__(self, span: "OpenTelemetrySpan") -> None:
        self.span = span

    def set(self, **attributes: Any) -> None:
        self.span.set_attributes(_named(attributes))

    def event(self, name: str, **attributes: Any) -> None:
        self.span.add_event(name, _named(attributes))

    def fail(self, why: str) -> None:
        from opentelemetry.trace import StatusCode

        self.span.set_attribute("error.type", why)
        self.span.set_status(StatusCode.ERROR, why)

    def end(self) -> None:
        self.span.end()


class _Tracing:
    """The connection to a collector, of this process."""

    def __init__(self, service: str, resource: Mapping[str, str]) -> None:
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._own: TracerProvider | None = None
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):  # the application has none of its own
            named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
                "OTEL_RESOURCE_ATTRIBUTES", ""
            )
            attributes = dict(resource) if named else {"service.name": service, **resource}
            provider = self._own = TracerProvider(
                resource=Resource.create(attributes), shutdown_on_exit=False
            )
            self._exporter = OTLPSpanExporter()
            provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("rayrtc")

    def begin(self, name: str, kind: Kind, attributes: Mapping[str, Any]) -> _Recorded:
        kinds = self._trace.SpanKind
        if kind == "server" and self._trace.get_current_span().is_recording():
            kind = "internal"  # the application's framework has one for the same request
        return _Recorded(
            self.tracer.start_span(name, kind=kinds[kind.upper()], attributes=_named(attributes))
        )

    @contextmanager
    def inside(self, span: _Recorded) -> Iterator[None]:
        """Make `span` the parent of those that begin in the block."""
        token = self._context.attach(self._trace.set_span_in_context(span.span))
        trace_id = format(span.span.get_span_context().trace_id, "032x")
        try:
            with log_fields.added(trace_id=trace_id):
                yield
        finally:
            self._context.detach(token)

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        current = self._trace.get_current_span().get_span_context()
        if current.is_valid and not current.is_remote:
            yield  # the application, or its framework, has a span for this request
            return
        # a server may begin a request in the context of the one before it on the same connection
        token = self._context.attach(self._propagator.extract(headers, self._context.Context()))
        try:
            yield
        finally:
            self._context.detach(token)

    def headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    def stop(self, timeout: float) -> None:
        if self._own is None:
            return
        # it sends what waits, for as long as the collector does not answer
        stopping = threading.Thread(target=self._own.shutdown, name="traces-stop", daemon=True)
        stopping.start()
        stopping.join(timeout)
        if stopping.is_alive():
            logger.info("the collector of traces does not answer; the last ones are lost")
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


_tracing: _Tracing | None = None


def start(service: str, **resource: str) -> None:
    """Send traces from now on, if the environment asks for it and the extra is installed.

    Args:
        service: the name of the service, unless the environment has one.
        resource: further attributes of this process.
    """
    global _tracing
    if _tracing is not None or not _wanted():
        return
    attributes = {name.replace("_", "."): value for name, value in resource.items()}
    try:
        _tracing = _Tracing(service, attributes)
    except ModuleNotFoundError as error:
        logger.info("no traces, as rayrtc[otel] is not installed: %s", error)
    except Exception:  # whatever the variables are: calls do not need traces
        logger.exception("no traces")


def stop(timeout: float = STOP_TIMEOUT) -> None:
    """Send what waits, for `timeout` seconds at most. Blocks."""
    global _tracing
    if _tracing is not None:
        _tracing.stop(timeout)
        _tracing = None


def begin(name: str, kind: Kind = "internal", **attributes: Any) -> Span:
    """A span whose caller ends it; its parent is the current one."""
    return NOTHING if _tracing is None else _tracing.begin(name, kind, attributes)


@contextmanager
def span(name: str, kind: Kind = "internal", **attributes: Any) -> Iterator[Span]:
    """A span as long as the block, and the current one inside.

    An exception is noted in it; one that is the client's fault (a status below 500) is no failure.
    """
    if _tracing is None:
        yield NOTHING
        return
    begun = _tracing.begin(name, kind, attributes)
    try:
        with _tracing.inside(begun):
            yield begun
    except RayRTCError as error:
        begun.set(refusal=error.code)
        if error.status >= 500:
            begun.fail(error.code)
        raise
    except BaseException as error:
        begun.fail(type(error).__name__)
        raise
    finally:
        begun.end()


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Go on with the trace that a request's `traceparent` names (W3C Trace Context)."""
    if _tracing is None:
        yield
        return
    with _tracing.continued(headers):
        yield


def headers() -> dict[str, str]:
    """What a request carries so that its server goes on with the current trace."""
    return {} if _tracing is None else _tracing.headers()


def environment() -> dict[str, str]:
    """The variables that make the same of another process."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def _wanted() -> bool:
    environ = os.environ
    if not any(environ.get(name) for name in ENDPOINTS):
        return False
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        return False
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), HTTP)
    if protocol != HTTP:
        logger.warning("no traces: OTLP is spoken over %s alone, not %s", HTTP, protocol)
    return protocol == HTTP


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"rayrtc.{name}": value for name, value in attributes.items() if value is not None}
