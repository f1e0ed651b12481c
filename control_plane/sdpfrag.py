"""SDP fragments of trickle ICE, `application/trickle-ice-sdpfrag` (RFC 8840, 9)."""

import re
from dataclasses import dataclass
from typing import Any

from control_plane.limits import CANDIDATE_MAX
from rayrtc.errors import InvalidCandidate, InvalidSDP, TooLarge

MEDIA_TYPE = "application/trickle-ice-sdpfrag"
CANDIDATES_MAX = 64
"""Candidates of one fragment: as many as a connection may have."""
SECTIONS_MAX = 32
LABEL_MAX = 256
"""Characters of a media id, a user name fragment or a password (RFC 8839, 5.4)."""

_LINE = re.compile(r"[a-z]=[^\x00\r\n]*")
_MEDIA = re.compile(r"m=[^ ]+ [0-9]{1,5}(/[0-9]{1,5})? [A-Za-z0-9/]+ .+")
_CANDIDATE = re.compile(
    r"candidate:[A-Za-z0-9+/]{1,32} [0-9]{1,5} [!-~]{1,32} [0-9]{1,10} [!-~]+ [0-9]{1,5} "
    r"typ [!-~]+( [!-~]+ [!-~]+)*"
)
"""RFC 8839, 5.1; which transports, addresses and types can be used is the worker's affair."""


@dataclass(frozen=True)
class Fragment:
    """What a fragment says."""

    candidates: tuple[dict[str, Any], ...]
    """Each as `RTCIceCandidate.toJSON()` of a browser gives it."""
    complete: bool
    """Whether no further candidates follow."""
    credentials: frozenset[tuple[str, str]]
    """Each user name fragment with its password."""


def parse_fragment(text: str) -> Fragment:
    """Read a fragment; attributes that trickle ICE has no use for are ignored.

    Raises:
        InvalidSDP: it has not the form of one.
        InvalidCandidate: a candidate has not.
        TooLarge: it has more candidates or sections than there may be.
    """
    sections: list[list[str]] = [[]]
    for number, line in enumerate(text.replace("\r\n", "\n").removesuffix("\n").split("\n"), 1):
        if not _LINE.fullmatch(line):
            raise InvalidSDP(f"line {number} is not of the form TYPE=VALUE")
        if line.startswith("m="):
            if not _MEDIA.fullmatch(line):
                raise InvalidSDP(f"line {number} is no media section")
            if len(sections) > SECTIONS_MAX:
                raise TooLarge(f"a fragment has at most {SECTIONS_MAX} media sections")
            sections.append([])
        elif line.startswith("a="):
            sections[-1].append(line.removeprefix("a="))
    session, *media = sections
    if any(line.startswith("candidate:") for line in session):
        raise InvalidSDP("a candidate belongs to a media section")
    found = [_credentials(section) for section in sections]
    candidates = [
        candidate
        for section, own in zip(media, found[1:], strict=True)
        for candidate in _candidates(section, own or found[0])
    ]
    if len(candidates) > CANDIDATES_MAX:
        raise TooLarge(f"a fragment has at most {CANDIDATES_MAX} candidates")
    return Fragment(
        candidates=tuple(candidates),
        complete=any("end-of-candidates" in section for section in sections),
        credentials=frozenset(pair for pair in found if pair is not None),
    )


def _candidates(section: list[str], credentials: tuple[str, str] | None) -> list[dict[str, Any]]:
    lines = [line for line in section if line.startswith("candidate:")]
    mid = _value(section, "mid")
    if lines and mid is None:
        raise InvalidSDP("a media section with candidates needs a=mid")
    for line in lines:
        if len(line) > CANDIDATE_MAX or not _CANDIDATE.fullmatch(line):
            raise InvalidCandidate("a candidate has not the form of RFC 8839, 5.1")
    ufrag = credentials[0] if credentials else None
    return [
        {"candidate": line, "sdpMid": mid, "sdpMLineIndex": None, "usernameFragment": ufrag}
        for line in lines
    ]


def _credentials(section: list[str]) -> tuple[str, str] | None:
    ufrag, password = _value(section, "ice-ufrag"), _value(section, "ice-pwd")
    if ufrag is None and password is None:
        return None
    if not ufrag or not password:
        raise InvalidSDP("a=ice-ufrag and a=ice-pwd belong together")
    return ufrag, password


def _value(section: list[str], attribute: str) -> str | None:
    """What a section says of an attribute, which it may do once."""
    values = [line.partition(":")[2] for line in section if line.startswith(attribute + ":")]
    if len(values) > 1 or any(not 1 <= len(value) <= LABEL_MAX for value in values):
        raise InvalidSDP(f"a={attribute} is there twice, empty or too long")
    return values[0] if values else None
