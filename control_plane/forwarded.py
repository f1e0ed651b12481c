"""Gives the application each request as the client sent it to a trusted proxy in front of it.

uvicorn's own middleware does so for `X-Forwarded-For` and `-Proto`; here `-Host`, `-Port` and
`-Prefix` are added, which the address in an answer to Twilio needs.
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,128}){1,16}/?")


class ForwardedHeaders:
    """ASGI middleware.

    Args:
        trusted: addresses and networks of the proxies that are believed.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._trusted = [ip_network(network) for network in trusted]
        self._rest = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan" or not self._is_trusted(scope):
            await self._app(scope, receive, send)
            return
        await self._rest(_as_sent(scope), receive, send)  # type: ignore[arg-type]

    def _is_trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        try:
            address = ip_address(client[0]) if client else None
        except ValueError:
            return False
        return address is not None and any(address in network for network in self._trusted)


def _as_sent(scope: Scope) -> Scope:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    scope = dict(scope)
    host = _first(headers.get(b"x-forwarded-host")) or headers.get(b"host", "")
    port = _first(headers.get(b"x-forwarded-port"))
    if (match := _HOST.fullmatch(host)) is not None:
        if port.isdecimal() and len(port) <= 5 and match[2] is None and port not in ("80", "443"):
            host = f"{host}:{port}"
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", host.encode("latin-1")), *others]
    prefix = _first(headers.get(b"x-forwarded-prefix"))
    if _PREFIX.fullmatch(prefix):
        prefix = prefix.rstrip("/")
        scope["root_path"] = prefix + scope.get("root_path", "")
        scope["path"] = prefix + scope["path"]
    return scope


def _first(value: str | None) -> str:
    """What the proxy nearest to the client has written."""
    return (value or "").split(",")[0].strip()
