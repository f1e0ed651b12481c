"""What a request brings along: its id, which log lines carry, and the trace that it is part of."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rayrtc import log_fields, tracing

HEADER = "X-Request-ID"
ANSWERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
"""ASGI messages that carry the headers of an answer."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class RequestContext:
    """ASGI middleware. A request without a usable `X-Request-ID` gets a new one; the answer has it.

    It covers the application's own routes too, and WebSockets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        # not taken back: the server has a task for each request, and tells of one that failed there
        log_fields.begin(request_id=request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] in ANSWERS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message).setdefault(HEADER, request_id)
            await send(message)

        with tracing.continued(headers):
            await self._app(scope, receive, send_with_id)
