"""The ICE servers that a stream's clients are told of, as JSON and as HTTP links."""

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

from rayrtc.cluster import codec
from rayrtc.errors import ICEServersUnavailable
from rayrtc.stream import Stream

logger = logging.getLogger(__name__)

RTC_CONFIGURATION_TIMEOUT = 10.0
"""Seconds that a stream's callable may take for its configuration."""

_URL = re.compile(r"(stun|turn)s?:[\x21-\x7e]+", re.IGNORECASE)
_TEXT = re.compile(r"[\x20-\x7e]*")
_QUOTED = re.compile(r'(["\\])')


async def client_configuration(stream: Stream) -> dict[str, Any]:
    """The `RTCConfiguration` for a client's peer connection.

    Raises:
        ICEServersUnavailable: the stream's callable raised or took too long.
    """
    try:
        async with asyncio.timeout(RTC_CONFIGURATION_TIMEOUT):
            configuration = await stream.resolve_rtc_configuration()
        return {name: codec.to_json(value) for name, value in configuration.items()}
    except Exception as error:
        # it is the stream author's callable: anything may be raised
        logger.exception("rtc_configuration of stream %s failed", stream.name)
        raise ICEServersUnavailable from error


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
