"""How the routes of a stream get into an application, and what OpenAPI says of them."""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.params import Depends
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from control_plane.bodies import Alive, Answer, Failure, Output, Ready, Success, inputs_body
from control_plane.cross_origin import CrossOriginRoute
from control_plane.endpoints import Endpoints
from control_plane.limits import (
    ContractRoute,
    ContractSocketRoute,
    RequestTimeout,
    answer_failure,
)
from control_plane.operations import Operations
from control_plane.replica import replica_of
from control_plane.request_context import RequestContext
from control_plane.resume_token import HEADER, LENGTH_MAX
from control_plane.sdpfrag import MEDIA_TYPE as SDPFRAG
from control_plane.sockets import Sockets
from control_plane.sse import EventStream
from control_plane.twilio import HANDLER, INCOMING, IncomingCalls, TwiML
from control_plane.whip import (
    ENDPOINT_METHODS,
    METHODS,
    SDP,
    SESSION_METHODS,
    WHEP,
    WHIP,
    Protocol,
    SDPAnswer,
    SessionEndpoints,
)
from rayrtc.errors import (
    ConcurrencyLimitReached,
    ConnectionAlreadyExists,
    ConnectionClosed,
    Forbidden,
    ICERestartUnsupported,
    ICEServersUnavailable,
    InvalidCandidate,
    InvalidSDP,
    NotAcceptable,
    NoWorkerAvailable,
    OutputTimeout,
    PreconditionFailed,
    PreconditionRequired,
    RayRTCError,
    TooLarge,
    UnknownConnection,
    UnsupportedMediaType,
    UnsupportedTrack,
)
from rayrtc.stream import Stream

Responses = dict[int | str, dict[str, Any]]
"""OpenAPI's entries of a route by status."""


MODULE = Path(__file__).parent / "static" / "rayrtc.js"
"""The client for browsers, which every stream serves beside its routes."""
EVENT: dict[str, Any] = {
    "type": "object",
    "title": "Event",
    "properties": {
        "id": {"type": "string", "description": "To be sent as `Last-Event-ID` to resume."},
        "event": {"enum": ["message", "output", "gap", "end"]},
        "data": {
            "type": "string",
            "description": "`end`: JSON with its `reason`. `gap`: JSON with the ids `after` and "
            "`next`, between which outputs are gone. Else the output.",
        },
    },
    "required": ["data"],
}
"""One event of a stream, for tools that read OpenAPI."""

IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The `ETag` of the answer to the offer, or `*`",
    "schema": {"type": "string"},
}
"""The ICE session that a request is for."""


def mount_stream(
    app: FastAPI,
    stream: Stream,
    path: str = "",
    tags: Sequence[str | Enum] | None = None,
    dependencies: Sequence[Depends] | None = None,
) -> None:
    """Add the routes of `stream` to `app` under `path`, and those of operation at its root.

    A route that the application has itself, before or after, takes the place of ours: the
    application may have its own `/input_hook` or `/updates`. `dependencies`, and before them those
    of the application, are called for each request and each WebSocket's handshake.

    Raises:
        ValueError: the application has a stream of this name or at this path, or the path is none.
    """
    path = path.rstrip("/")
    if path and not path.startswith("/"):
        raise ValueError(f"the path of a stream begins with a slash, got {path!r}")
    replica = replica_of(app)
    if stream.name in replica.streams:
        raise ValueError(f"the application has a stream named {stream.name!r} already")
    if path in replica.paths.values():
        raise ValueError(f"the application has a stream at {path or '/'!r} already")
    endpoints = Endpoints(replica, stream)
    body = inputs_body(stream.name, stream.inputs)
    if not replica.streams:
        app.add_exception_handler(RayRTCError, answer_failure)
        app.add_middleware(RequestContext)
        _add_operations(app, Operations(replica))
    replica.streams[stream.name] = stream
    replica.paths[stream.name] = path
    add = partial(_add, app, path, tags, dependencies)
    offer_answers = _with_body(
        ConcurrencyLimitReached,
        NoWorkerAvailable,
        ConnectionAlreadyExists,
        UnknownConnection,
        ConnectionClosed,
        InvalidSDP,
        InvalidCandidate,
        UnsupportedTrack,
    )
    offer_answers[200] = {
        "description": "The answer to an offer, or that a candidate was taken",
        "headers": {
            HEADER: {
                "schema": {"type": "string", "maxLength": LENGTH_MAX},
                "description": "With the answer to an offer: an offer of the same id that carries "
                "it takes the place of this connection.",
            }
        },
    }
    add("POST", "/webrtc/offer", endpoints.offer, Answer | Success, offer_answers)
    add(
        "POST",
        "/input_hook",
        endpoints.input_hook(body),
        Success,
        _with_body(UnknownConnection, ConnectionClosed, NoWorkerAvailable),
    )
    stream_answers = _failures(UnknownConnection, NoWorkerAvailable)
    stream_answers[200] = {
        "description": "Events until the end of the connection",
        "content": {"text/event-stream": {"schema": EVENT}},
    }
    stream_answers[204] = {"description": "The client has all events, the end among them"}
    add("GET", "/updates", endpoints.updates, None, stream_answers, EventStream)
    add("GET", "/outputs", endpoints.outputs, None, stream_answers, EventStream)
    add(
        "GET",
        "/outputs/latest",
        endpoints.latest,
        Output,
        _failures(UnknownConnection, ConnectionClosed, OutputTimeout, NoWorkerAvailable),
    )
    add(
        "GET",
        "/rtc-configuration",
        endpoints.rtc_configuration,
        dict[str, Any],
        _failures(ICEServersUnavailable),
    )
    for protocol in (WHIP, WHEP):
        _add_sessions(
            app, path, tags, dependencies, SessionEndpoints(replica, stream, protocol), protocol
        )
    app.router.add_api_route(
        f"{path}/{MODULE.name}",
        _module,
        include_in_schema=False,
        dependencies=dependencies,
        route_class_override=ContractRoute,
    )
    sockets = Sockets(replica, stream)
    calls = IncomingCalls(replica, stream)
    incoming = _with_body(Forbidden, NoWorkerAvailable)
    add("POST", INCOMING, calls.handle_incoming_call, None, incoming, TwiML)
    for route, endpoint in (
        ("/websocket/offer", sockets.websocket_offer),
        (HANDLER, sockets.telephone_handler),
    ):
        required = [*app.router.dependencies, *(dependencies or ())]
        app.router.routes.append(ContractSocketRoute(path + route, endpoint, required))
    stream.set_endpoints(
        offer=endpoints.offer,
        websocket_offer=sockets.websocket_offer,
        telephone_handler=sockets.telephone_handler,
        handle_incoming_call=calls.handle_incoming_call,
    )


def _add_sessions(
    app: FastAPI,
    prefix: str,
    tags: Sequence[str | Enum] | None,
    dependencies: Sequence[Depends] | None,
    endpoints: SessionEndpoints,
    protocol: Protocol,
) -> None:
    """The routes of WHIP or WHEP: the endpoint that takes offers, and its sessions."""
    path = f"/{protocol.name}"
    if not endpoints.supported:
        _add_open(app, prefix + path, METHODS, endpoints.unsupported)
        return
    add = partial(_add, app, prefix, tags, dependencies, route_class=CrossOriginRoute)
    taken = _with_body(
        ConcurrencyLimitReached,
        NoWorkerAvailable,
        ICEServersUnavailable,
        ConnectionAlreadyExists,
        ConnectionClosed,
        InvalidSDP,
        UnsupportedTrack,
        NotAcceptable,
        UnsupportedMediaType,
    )
    taken[201] = {
        "description": "The answer to the offer",
        "headers": _headers(
            Location="Path of the session",
            ETag="Of the ICE session, for `If-Match`",
            Link="An ICE server, once for each",
        ),
    }
    add(
        *("POST", path, endpoints.create, None, taken, SDPAnswer),
        status=201,
        extra=_request_body(SDP, "The offer"),
    )
    add("GET", path, endpoints.describe, None, {200: {"description": "Empty"}}, SDPAnswer)
    add("HEAD", path, endpoints.describe, None, {}, SDPAnswer)
    session = path + "/{session}"
    known = (UnknownConnection, ConnectionClosed, NoWorkerAvailable)
    patched = _with_body(
        *known,
        InvalidSDP,
        InvalidCandidate,
        UnsupportedMediaType,
        PreconditionFailed,
        PreconditionRequired,
        ICERestartUnsupported,
    )
    add(
        *("PATCH", session, endpoints.patch, None, patched),
        status=204,
        extra=_request_body(SDPFRAG, "Candidates (RFC 8840, 9)") | {"parameters": [IF_MATCH]},
    )
    add("DELETE", session, endpoints.delete, Success, _failures(*known))
    add("GET", session, endpoints.describe_session, None, _failures(*known), status=204)
    add("HEAD", session, endpoints.describe_session, None, {}, status=204)
    for at, methods, options, not_allowed in (
        (path, ENDPOINT_METHODS, endpoints.options, endpoints.not_allowed),
        (session, SESSION_METHODS, endpoints.session_options, endpoints.session_not_allowed),
    ):
        _add_open(app, prefix + at, ["OPTIONS"], options)
        others = [method for method in METHODS if method not in methods.split(", ")]
        _add_open(app, prefix + at, others, not_allowed)


def _add_open(
    app: FastAPI, path: str, methods: Sequence[str], endpoint: Callable[..., Any]
) -> None:
    """A route without dependencies: browsers send no credentials with a preflight."""
    route = CrossOriginRoute(path, endpoint, methods=list(methods), include_in_schema=False)
    app.router.routes.append(route)


async def _module() -> FileResponse:
    return FileResponse(MODULE, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def _add_operations(app: FastAPI, operations: Operations) -> None:
    add = partial(_add, app, "", ["operations"], None)
    add("GET", "/healthz", operations.healthz, Alive, {})
    add("GET", "/readyz", operations.readyz, Ready, _failures(NoWorkerAvailable))
    responses = _failures(NoWorkerAvailable)
    responses[200] = {
        "description": "Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    add("GET", "/metrics", operations.metrics, None, responses, PlainTextResponse)


def _add(
    app: FastAPI,
    prefix: str,
    tags: Sequence[str | Enum] | None,
    dependencies: Sequence[Depends] | None,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    model: Any,
    responses: Responses,
    response_class: type[Response] = JSONResponse,
    *,
    status: int = 200,
    extra: dict[str, Any] | None = None,
    route_class: type[ContractRoute] = ContractRoute,
) -> None:
    """Add a route; `extra` is what OpenAPI says beyond what FastAPI finds out."""
    if response_class is not JSONResponse:  # its failures are JSON all the same
        responses = {status: _as_json(entry) for status, entry in responses.items()}
    app.router.add_api_route(
        prefix + path,
        endpoint,
        methods=[method],
        response_model=model,
        status_code=status,
        response_class=response_class,
        responses=responses,
        tags=list(tags) if tags else None,
        dependencies=dependencies,
        include_in_schema=method != "HEAD",
        openapi_extra=extra,
        route_class_override=route_class,
    )


def _request_body(media_type: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "description": description}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def _headers(**descriptions: str) -> dict[str, Any]:
    return {
        name: {"schema": {"type": "string"}, "description": text}
        for name, text in descriptions.items()
    }


def _as_json(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry whose model FastAPI would show under the route's own media type."""
    if entry.get("model") is not Failure:
        return entry
    schema = Failure.model_json_schema()
    schema["properties"]["meta"] = schema.pop("$defs")["FailureMeta"]
    rest = {name: value for name, value in entry.items() if name != "model"}
    return {**rest, "content": {"application/json": {"schema": schema}}}


def _failures(*errors: type[RayRTCError]) -> Responses:
    responses: Responses = {}
    for error in errors:
        entry = responses.setdefault(error.status, {"model": Failure, "description": ""})
        entry["description"] = ", ".join(filter(None, [entry["description"], error.code]))
        if error.status in (ConcurrencyLimitReached.status, NoWorkerAvailable.status):
            entry["headers"] = _headers(**{"Retry-After": "Seconds"})
    return responses


def _with_body(*errors: type[RayRTCError]) -> Responses:
    return _failures(*errors, TooLarge, RequestTimeout)
