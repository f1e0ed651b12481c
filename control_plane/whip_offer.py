"""The offer of a WHIP or WHEP client, made into one that the workers take as they are.

Media flows one way, whatever else the stream could do, and sections of a bundle that leave out what
the first one says of their transport have it filled in.
"""

from dataclasses import dataclass
from typing import Literal

from rayrtc.errors import InvalidSDP

Direction = Literal["sendonly", "recvonly"]

_DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
_TRANSPORT = ("a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:", "a=fingerprint:", "a=setup:")
_MUX = "a=rtcp-mux"
_BUNDLE = "a=group:BUNDLE "


@dataclass(frozen=True)
class Sections:
    """A session description in lines without their ends: the session, then each media section."""

    session: list[str]
    media: list[list[str]]

    @classmethod
    def of(cls, sdp: str) -> "Sections":
        """Cut where a section begins; nothing is checked."""
        session: list[str] = []
        media: list[list[str]] = []
        for line in sdp.replace("\r\n", "\n").removesuffix("\n").split("\n"):
            if line.startswith("m="):
                media.append([])
            (media[-1] if media else session).append(line)
        return cls(session, media)

    def __str__(self) -> str:
        lines = [*self.session, *(line for section in self.media for line in section)]
        return "\r\n".join(lines) + "\r\n"

    def value(self, section: list[str], attribute: str) -> str | None:
        """What a section, or the session for it, says of an attribute (`a=NAME:`)."""
        for line in (*section, *self.session):
            if line.startswith(attribute):
                return line.removeprefix(attribute)
        return None


def credentials(sdp: str) -> tuple[str, str]:
    """The ICE user name fragment and password of an offer's first section, "" where missing."""
    sections = Sections.of(sdp)
    first = sections.media[0] if sections.media else []
    ufrag, password = (sections.value(first, f"a=ice-{name}:") for name in ("ufrag", "pwd"))
    return ufrag or "", password or ""


def one_way(sdp: str, direction: Direction) -> str:
    """The offer with all media in `direction`, and the transport in each section.

    Raises:
        InvalidSDP: media would flow the other way, or not at all (RFC 9725, 4.2).
    """
    sections = Sections.of(sdp)
    _complete(sections)
    default = next((line for line in sections.session if line in _DIRECTIONS), "a=sendrecv")
    for section in sections.media:
        if section[0].startswith("m=application"):
            continue
        own = next((line for line in section if line in _DIRECTIONS), default)
        if own not in (f"a={direction}", "a=sendrecv"):
            raise InvalidSDP(f"media of this offer must be {direction} or sendrecv")
        section[:] = [line for line in section if line not in _DIRECTIONS]
        section.append(f"a={direction}")
    sections.session[:] = [line for line in sections.session if line not in _DIRECTIONS]
    return str(sections)


def _complete(sections: Sections) -> None:
    """Say of each section of the bundle what its first one says (RFC 9143, 7.1.3 and 9)."""
    bundle = sections.value([], _BUNDLE)
    if bundle is None:
        return
    mids = bundle.split()
    bundled = [s for s in sections.media if _mid(s) in mids]
    tagged = next((s for s in bundled if _mid(s) == mids[0]), None)
    if tagged is None:
        return
    transport = [line for line in tagged if line.startswith(_TRANSPORT)]
    for section in bundled:
        if not any(line.startswith(_TRANSPORT) for line in section):
            section += transport
            if _MUX in tagged and _MUX not in section and "m=application" not in section[0]:
                section.append(_MUX)


def _mid(section: list[str]) -> str | None:
    mids = (line.removeprefix("a=mid:") for line in section if line.startswith("a=mid:"))
    return next(mids, None)


def mux_only(answer: str) -> str:
    """The answer with RTCP on its media's port alone, which RFC 9725, 4.4.1 wants to be said."""
    return answer.replace(f"{_MUX}\r\n", f"{_MUX}\r\n{_MUX}-only\r\n")
