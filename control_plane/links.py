"""ICE servers as HTTP links, for clients that have no other way to ask (RFC 9725, 4.6)."""

import logging
import re
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

_URL = re.compile(r"(stun|turn)s?:[\x21-\x7e]+", re.IGNORECASE)
_TEXT = re.compile(r"[\x20-\x7e]*")
_QUOTED = re.compile(r'(["\\])')


def ice_server_links(configuration: dict[str, Any]) -> list[str]:
    """A `Link` header for each URL of each server (RFC 9725, 4.6).

    What a header cannot carry is left out, and logged without the credential.
    """
    links: list[str] = []
    servers = configuration.get("iceServers")
    for server in servers if isinstance(servers, list) else [servers]:
        if isinstance(server, dict):
            links += _links(server)
    return links


def _links(server: dict[str, Any]) -> Iterator[str]:
    urls = server.get("urls", server.get("url"))
    for url in urls if isinstance(urls, list) else [urls]:
        link = _link(url, server) if isinstance(url, str) else None
        if link is not None:
            yield link
        elif url is not None:
            logger.warning("an ICE server cannot be given to WHIP and WHEP clients: %.128s", url)


def _link(url: str, server: dict[str, Any]) -> str | None:
    if not _URL.fullmatch(url) or ">" in url:
        return None
    parts = [f"<{url}>", 'rel="ice-server"']
    if url.lower().startswith("turn"):
        credentials = {
            "username": server.get("username"),
            "credential": server.get("credential"),
            "credential-type": server.get("credentialType", "password"),
        }
        for name, value in credentials.items():
            if value is None:
                continue
            if not isinstance(value, str) or not _TEXT.fullmatch(value):
                return None
            quoted = _QUOTED.sub(r"\\\1", value)
            parts.append(f'{name}="{quoted}"')
    return "; ".join(parts)
