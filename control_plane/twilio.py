"""What Twilio needs of an application: TwiML for an incoming call, and proof that it is Twilio.

Addresses are as the caller saw them: `control_plane.forwarded` has put right what a proxy changed.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl

from fastapi import Request, Response, WebSocket
from pydantic import SecretStr
from starlette.datastructures import URL

from control_plane.limits import BoundedRequest
from control_plane.replica import Replica
from rayrtc.errors import Forbidden
from rayrtc.stream import Stream

INCOMING = "/telephone/incoming"
HANDLER = "/telephone/handler"

_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class TwiML(Response):
    """Instructions to Twilio."""

    media_type = "application/xml"


class IncomingCalls:
    """The webhook of one stream's telephone number."""

    def __init__(self, replica: Replica, stream: Stream) -> None:
        self._replica = replica
        self._stream = stream

    async def handle_incoming_call(self, request: Request) -> Response:
        """TwiML that connects the call with the stream."""
        token = self._replica.services.settings.twilio_auth_token
        if token is not None:
            body = BoundedRequest(request.scope, request.receive)
            await body.load()
            form = parse_qsl((await body.body()).decode("utf-8", "replace"), True)
            _check(request.url, form, request.headers.get("x-twilio-signature", ""), token)
        return TwiML(self._stream.twiml(self._stream_url(request)))

    def _stream_url(self, request: Request) -> str:
        """Where Twilio sends the call's audio: Media Streams take `wss` alone."""
        path = request.url.path
        if path.endswith(INCOMING):
            prefix = path.removesuffix(INCOMING)
        else:  # the application has a route of its own for incoming calls
            prefix = request.scope.get("root_path", "") + self._replica.paths[self._stream.name]
        return f"wss://{request.url.netloc}{prefix}{HANDLER}"


def check_handshake(websocket: WebSocket, token: SecretStr | None) -> None:
    """Check the signature of a WebSocket's handshake, when there is a token to check it with.

    Raises:
        Forbidden: it is missing or wrong.
    """
    if token is not None:
        url = websocket.url.replace(scheme="wss")
        _check(url, (), websocket.headers.get("x-twilio-signature", ""), token)


def signature(url: str, form: Iterable[tuple[str, str]], token: str) -> str:
    """Twilio's signature of a request: https://www.twilio.com/docs/usage/security"""
    text = url + "".join(name + value for name, value in sorted(set(form)))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def _check(url: URL, form: Iterable[tuple[str, str]], given: str, token: SecretStr) -> None:
    form = list(form)
    secret = token.get_secret_value()
    proven = [
        hmac.compare_digest(signature(text, form, secret).encode(), given.encode())
        for text in _spellings(url)
    ]
    if not any(proven):
        raise Forbidden("the request does not carry Twilio's signature")


def _spellings(url: URL) -> set[str]:
    """The ways in which Twilio may have written the address: with the scheme's port or without."""
    host = url.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    default = _PORTS[url.scheme]
    spellings = {str(url)}
    if url.port in (None, default):
        spellings |= {str(url.replace(netloc=host)), str(url.replace(netloc=f"{host}:{default}"))}
    return spellings | {spelling + "/" for spelling in spellings if url.scheme == "wss"}
