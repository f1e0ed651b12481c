"""Every error a caller can be told of: one type, one code, one HTTP status.

The same body goes out over HTTP and WebSocket:
``{"status": "failed", "meta": {"error": CODE, ...}}``.
"""

from typing import Any, ClassVar


class RayRTCError(Exception):
    """Base of all errors that are answered to a client.

    `code` is the contract's name of the error and `status` its HTTP status.
    `meta` holds further JSON members of the answer, `retry_after` the seconds
    of a ``Retry-After`` header (RFC 9110, 10.2.3).
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400

    def __init__(self, detail: str = "", *, retry_after: int | None = None, **meta: Any) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.retry_after = retry_after
        self.meta = meta

    def body(self) -> dict[str, Any]:
        """The JSON body that a client gets."""
        meta: dict[str, Any] = {"error": self.code, **self.meta}
        if self.detail:
            meta["detail"] = self.detail
        return {"status": "failed", "meta": meta}

    def headers(self) -> dict[str, str]:
        """The headers that HTTP asks for with this answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class ConcurrencyLimitReached(RayRTCError):
    """The stream holds as many connections as its `concurrency_limit` allows."""

    code = "concurrency_limit_reached"
    status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(retry_after=1, limit=limit)


class NoWorkerAvailable(RayRTCError):
    """No worker has a free slot, or the registry cannot be reached."""

    code = "no_worker_available"
    status = 503

    def __init__(self, detail: str = "", retry_after: int = 2) -> None:
        super().__init__(detail, retry_after=retry_after)


class ConnectionAlreadyExists(RayRTCError):
    """A connection of this id is live or being set up."""

    code = "connection_already_exists"
    status = 409


class UnknownConnection(RayRTCError):
    """No connection of this id is known."""

    code = "unknown_connection"
    status = 404


class ConnectionClosed(RayRTCError):
    """The connection of this id has ended."""

    code = "connection_closed"
    status = 410


class InvalidSDP(RayRTCError):
    """The offer is no session description that can be answered (RFC 8866, RFC 9429)."""

    code = "invalid_sdp"
    status = 400


class InvalidCandidate(RayRTCError):
    """The ICE candidate cannot be parsed (RFC 8839, 5.1)."""

    code = "invalid_candidate_format"
    status = 400


class UnsupportedTrack(RayRTCError):
    """The offer has a kind of media that the stream's modality does not take."""

    code = "unsupported_track"
    status = 400


class TooLarge(RayRTCError):
    """A body, argument or output is larger than its limit."""

    code = "too_large"
    status = 413


class ICEServersUnavailable(RayRTCError):
    """The stream's `rtc_configuration` raised or took too long."""

    code = "ice_servers_unavailable"
    status = 503

    def __init__(self) -> None:
        super().__init__(retry_after=2)


class OutputTimeout(RayRTCError):
    """No output arrived within the time asked for."""

    code = "output_timeout"
    status = 504


class Unauthorized(RayRTCError):
    """The request carries no valid credential."""

    code = "unauthorized"
    status = 401

    def headers(self) -> dict[str, str]:
        """RFC 9110, 15.5.2: the answer says what is asked for."""
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(RayRTCError):
    """The request's signature is missing or wrong."""

    code = "forbidden"
    status = 403


class UnsupportedMode(RayRTCError):
    """The stream takes no media, or gives none, so this way to do so is not there."""

    code = "unsupported_mode"
    status = 404


class MethodNotAllowed(RayRTCError):
    """The resource does not have this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, allowed: str) -> None:
        super().__init__(f"the methods here are {allowed}")
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        """RFC 9110, 15.5.6: the answer lists the methods."""
        return {"Allow": self._allowed}


class NotAcceptable(RayRTCError):
    """The client does not take the media type of the answer."""

    code = "not_acceptable"
    status = 406


class PreconditionFailed(RayRTCError):
    """The request is for another ICE session than the current one."""

    code = "precondition_failed"
    status = 412


class UnsupportedMediaType(RayRTCError):
    """The body is not of the media type that is taken here."""

    code = "unsupported_media_type"
    status = 415

    def __init__(self, taken: str, header: str) -> None:
        super().__init__(f"the body must be {taken}")
        self._headers = {header: taken}

    def headers(self) -> dict[str, str]:
        """RFC 9110, 15.5.16: the answer says which one is."""
        return self._headers


class ICERestartUnsupported(RayRTCError):
    """The connection takes further candidates, but cannot restart ICE."""

    code = "ice_restart_unsupported"
    status = 422


class PreconditionRequired(RayRTCError):
    """The request must say which ICE session it is for."""

    code = "precondition_required"
    status = 428


class InvalidMessage(RayRTCError):
    """A WebSocket frame is not what the protocol asks for at its place."""

    code = "invalid_message"
    status = 422


def error_types() -> dict[str, type[RayRTCError]]:
    """All error types by their code."""
    return {cls.code: cls for cls in RayRTCError.__subclasses__()}
