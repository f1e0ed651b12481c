"""A call that the deployment refuses, as its answer tells it."""

import json
from typing import Any

PATIENCE = {"no_worker_available": 30.0, "concurrency_limit_reached": 3.0}
"""Codes that say that there is no room for another call, and seconds for which it is offered again:
a pool that grows needs them, workers that were overloaded, and calls that have just ended."""


class Refused(RuntimeError):
    """An offer that was not taken.

    Attributes:
        code: the error's name in the answer; `http_STATUS` where it has none.
        status: of HTTP; 0 over an open WebSocket.
        detail: what else the answer says.
        retry_after: seconds; 1 where nothing is said.
    """

    def __init__(self, code: str, status: int = 0, detail: str = "", retry_after: float = 1.0):
        super().__init__(f"the offer was refused: {code} {detail}".rstrip())
        self.code = code
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


def refusal(body: Any, status: int = 0, retry_after: str | None = None) -> Refused:
    """What a failed answer says; `body` is its JSON, or its text when it is none.

    `retry_after` is the header of that name (RFC 9110, 10.2.3).
    """
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            body = None
    meta = body.get("meta") if isinstance(body, dict) else None
    if not isinstance(meta, dict):
        meta = {}
    rest = {name: value for name, value in meta.items() if name != "error"}
    detail = ", ".join(f"{name} {value}" for name, value in rest.items())
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
    return Refused(str(meta.get("error", f"http_{status}")), status, detail, seconds)
