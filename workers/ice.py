"""ICE at the edges: the configuration of a peer connection and the candidates that clients send."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceCandidate,
    RTCIceServer,
    RTCIceTransportPolicy,
)
from aiortc.rtcicetransport import connection_kwargs

from rayrtc.errors import InvalidCandidate

MAX_CANDIDATES = 64
"""Remote candidates of one connection; further ones are refused, or left out of an offer."""
MAX_CANDIDATE_BYTES = 1024

_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")
_MDNS = re.compile(r"[A-Za-z0-9-]{1,63}\.local", re.IGNORECASE)
_TYPES = ("host", "srflx", "prflx", "relay")


def rtc_configuration(
    source: Mapping[str, Any] | None, added: Sequence[Mapping[str, Any]] = ()
) -> RTCConfiguration:
    """aiortc's configuration from the members of a W3C `RTCConfiguration`.

    `added` are further ICE servers; aiortc uses the first TURN server and the first STUN server of
    all. Without any there are none: aiortc's default STUN server costs 5 s where it is out of
    reach. Members that aiortc has no counterpart of are ignored.

    Raises:
        ValueError: a member has a value that cannot be used.
    """
    source = source or {}
    try:
        servers = [_server(server) for server in (*(source.get("iceServers") or ()), *added)]
        connection_kwargs(servers)  # parses the URLs
        return RTCConfiguration(
            iceServers=servers,
            iceTransportPolicy=RTCIceTransportPolicy(source.get("iceTransportPolicy") or "all"),
            bundlePolicy=RTCBundlePolicy(source.get("bundlePolicy") or "balanced"),
            alwaysNegotiateDataChannels=bool(source.get("alwaysNegotiateDataChannels", False)),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"server_rtc_configuration is not usable: {error!r}") from error


def uses_turn(configuration: RTCConfiguration) -> bool:
    """Whether a relayed address is to be had."""
    return "turn_server" in connection_kwargs(configuration.iceServers or [])


def _server(source: Mapping[str, Any]) -> RTCIceServer:
    urls = source.get("urls", source.get("url"))
    if not isinstance(urls, str):
        urls = [str(url) for url in urls or ()]
    return RTCIceServer(
        urls=urls,
        username=source.get("username"),
        credential=source.get("credential"),
        credentialType=source.get("credentialType") or "password",
    )


def parse_candidate(source: Mapping[str, Any] | None) -> RTCIceCandidate | None:
    """The candidate in what `RTCIceCandidate.toJSON()` of a browser gives (RFC 8839, 5.1).

    None and an empty candidate text mean the end of candidates: the result is None. Firefox sends
    8 tokens, Chromium appends extensions; both are valid.

    Raises:
        InvalidCandidate: it is neither.
    """
    if source is None:
        return None
    text = source.get("candidate")
    if not isinstance(text, str):
        raise InvalidCandidate("the candidate's text is missing")
    if len(text.encode("utf-8", "replace")) > MAX_CANDIDATE_BYTES:
        raise InvalidCandidate(f"a candidate has at most {MAX_CANDIDATE_BYTES} bytes")
    text = text.strip().removeprefix("a=").removeprefix("candidate:")
    if not text:
        return None
    candidate = parse_candidate_line(text)
    candidate.sdpMid, candidate.sdpMLineIndex = _section(source)
    return candidate


def _section(source: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Which media section of the offer a candidate belongs to."""
    mid, index = source.get("sdpMid"), source.get("sdpMLineIndex")
    if mid is not None and not isinstance(mid, str):
        raise InvalidCandidate("sdpMid must be a string")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise InvalidCandidate("sdpMLineIndex must be an integer")
    if mid is None and index is None:
        raise InvalidCandidate("sdpMid or sdpMLineIndex is needed")
    return mid, index


def parse_candidate_line(text: str) -> RTCIceCandidate:
    """The value of an `a=candidate:` line.

    Raises:
        InvalidCandidate: it has not the grammar of RFC 8839, 5.1.
    """
    bits = text.split()
    if len(bits) < 8 or bits[6].lower() != "typ":
        raise InvalidCandidate("a candidate has at least 8 tokens, the 7th is typ")
    foundation, component, protocol, priority, host, port, _, kind = bits[:8]
    if not _FOUNDATION.fullmatch(foundation):
        raise InvalidCandidate("the foundation is malformed")
    if protocol.lower() not in ("udp", "tcp"):
        raise InvalidCandidate("the transport is neither UDP nor TCP")
    if kind not in _TYPES:
        raise InvalidCandidate("the type is not known")
    if not _MDNS.fullmatch(host):
        _address(host)
    extensions = dict(zip(bits[8::2], bits[9::2], strict=False))
    related_port = extensions.get("rport")
    return RTCIceCandidate(
        component=_number(component, 256, "component"),
        foundation=foundation,
        ip=host,
        port=_number(port, 65535, "port"),
        priority=_number(priority, 2**32 - 1, "priority"),
        protocol=protocol.lower(),
        type=kind,
        relatedAddress=extensions.get("raddr"),
        relatedPort=None if related_port is None else _number(related_port, 65535, "rport"),
        tcpType=extensions.get("tcptype"),
    )


def is_usable(candidate: RTCIceCandidate) -> bool:
    """Whether aioice could pair it: UDP, RTP's component, a port that can be sent to."""
    return (
        candidate.protocol == "udp"
        and candidate.component == 1
        and candidate.port > 0
        and candidate.type != "prflx"
    )


def _address(host: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise InvalidCandidate("the address is neither an IP address nor an mDNS name") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise InvalidCandidate("an address with a zone is of no use to another host")


def _number(text: str, largest: int, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > largest:
        raise InvalidCandidate(f"the {name} is not a number from 0 to {largest}")
    return int(text)
