"""What a worker checks in an offer before any socket or thread is made for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.sdp import MediaDescription, SessionDescription

from rayrtc.errors import InvalidCandidate, InvalidSDP, UnsupportedTrack
from workers.ice import MAX_CANDIDATES, parse_candidate_line

MAX_SDP_BYTES = 128 * 1024
MAX_SECTIONS = 16
"""Media sections of one offer: each may cost sockets until the answer bundles them."""

_CANDIDATE = "a=candidate:"
_END = "a=end-of-candidates"


@dataclass(frozen=True)
class Offer:
    """An offer without its candidates, which are added after the answer as if they were trickled.

    So an mDNS name in the offer, which takes up to a second to resolve, does not delay the answer.
    """

    sdp: str
    candidates: tuple[RTCIceCandidate, ...]
    complete: bool
    """Whether the offer says that no further candidates follow."""


def parse_offer(sdp: str, kinds: Sequence[str], allow_extra_tracks: bool) -> Offer:
    """Check that an offer can be answered with media of `kinds`.

    Raises:
        InvalidSDP: it is no session description that aiortc can answer.
        UnsupportedTrack: a media section is of another kind and `allow_extra_tracks` is not set, or
            one of `kinds` is missing.
    """
    if len(sdp.encode("utf-8", "replace")) > MAX_SDP_BYTES:
        raise InvalidSDP(f"an offer has at most {MAX_SDP_BYTES} bytes")
    text, candidates, complete = _take_candidates(sdp)
    try:
        description = SessionDescription.parse(text)
    except Exception as error:  # aiortc's parser raises whatever its regular expressions lead to
        raise InvalidSDP("the session description cannot be parsed") from error
    if not description.media:
        raise InvalidSDP("the session description has no media section")
    if len(description.media) > MAX_SECTIONS:
        raise UnsupportedTrack(f"an offer has at most {MAX_SECTIONS} media sections")
    _check_kinds(description.media, kinds, allow_extra_tracks)
    for media in description.media:
        _check_transport(media)
    return Offer(_with_directions(description, text), tuple(candidates), complete)


def _with_directions(description: SessionDescription, text: str) -> str:
    """`text` with the default direction, sendrecv, written out (RFC 8866, 6.7): aiortc needs it."""
    silent = [m for m in description.media if m.direction is None and m.kind != "application"]
    for media in silent:
        media.direction = "sendrecv"
    return str(description) if silent else text


def _take_candidates(sdp: str) -> tuple[str, list[RTCIceCandidate], bool]:
    lines: list[str] = []
    candidates: list[RTCIceCandidate] = []
    complete = False
    section = -1
    for line in sdp.splitlines():
        if line.startswith("m="):
            section += 1
        if line.startswith(_CANDIDATE):
            if len(candidates) >= MAX_CANDIDATES:
                continue
            try:
                candidate = parse_candidate_line(line.removeprefix(_CANDIDATE))
            except InvalidCandidate:
                continue  # one that this side does not understand is no reason to refuse the others
            candidate.sdpMLineIndex = max(section, 0)
            candidates.append(candidate)
        elif line.strip() == _END:
            complete = True
        else:
            lines.append(line)
    return "\r\n".join(lines) + "\r\n", candidates, complete


def _check_kinds(
    sections: Sequence[MediaDescription], kinds: Sequence[str], allow_extra_tracks: bool
) -> None:
    offered = [media.kind for media in sections]
    for kind in kinds:
        if kind not in offered:
            raise UnsupportedTrack(f"the offer has no {kind}")
    for kind in offered:
        if kind not in ("audio", "video", "application"):
            raise UnsupportedTrack(f"media of kind {kind[:32]!r} is not supported")
    tracks = [kind for kind in offered if kind != "application"]
    if not allow_extra_tracks and sorted(tracks) != sorted(kinds):
        raise UnsupportedTrack(f"the stream takes one track each of {', '.join(kinds)}, no others")
    if offered.count("application") > 1:
        raise UnsupportedTrack("an offer has at most one section for data channels")


def _check_transport(media: MediaDescription) -> None:
    """What aiortc finds out only after the answer, in a task that nobody waits for."""
    if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
        raise InvalidSDP("ICE user name or password is missing")
    if media.dtls is None or not media.dtls.fingerprints:
        raise InvalidSDP("the DTLS fingerprint or role is missing")
    if media.kind == "application":
        legacy = media.profile == "DTLS/SCTP"
        if legacy and not (media.fmt and str(media.fmt[0]).isdecimal()):
            raise InvalidSDP("the SCTP port is missing")
        if not legacy and media.sctp_port is None:
            raise InvalidSDP("the SCTP port is missing")
    elif not media.rtcp_mux:
        raise InvalidSDP("RTCP is not multiplexed")
