"""Loaded by schemathesis: bodies that are no JSON, and ids of connections that exist.

With `WHIP_SESSION` in the environment, requests name such ids, so that they get past the 404.
"""

import os
from typing import Any

import schemathesis

SESSION = os.environ.get("WHIP_SESSION", "")

schemathesis.serializer.alias(["application/sdp", "application/trickle-ice-sdpfrag"], "text/plain")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    if SESSION and isinstance(body, dict) and "webrtc_id" in body:
        return {**body, "webrtc_id": "live"}
    return body


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    # the event stream of a live connection has no end
    if SESSION and isinstance(query, dict) and "webrtc_id" in query:
        return {**query, "webrtc_id": "ended"}
    return query


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    if SESSION and isinstance(path_parameters, dict) and "session" in path_parameters:
        return {**path_parameters, "session": SESSION}
    return path_parameters
