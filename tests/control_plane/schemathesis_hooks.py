"""Loaded by schemathesis: requests name connections that exist, so that they get past the 404."""

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    if isinstance(body, dict) and "webrtc_id" in body:
        return {**body, "webrtc_id": "live"}
    return body


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    # the event stream of a live connection has no end
    if isinstance(query, dict) and "webrtc_id" in query:
        return {**query, "webrtc_id": "ended"}
    return query
