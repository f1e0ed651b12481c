"""Fragments that WHIP clients send. Failing, their candidates are lost or a bad one does harm."""

import pytest

from control_plane.sdpfrag import CANDIDATES_MAX, SECTIONS_MAX, parse_fragment
from rayrtc.errors import InvalidCandidate, InvalidSDP, RayRTCError, TooLarge

CANDIDATE = "candidate:4077567720 1 udp 2113937151 192.0.2.1 50123 typ host generation 1 ufrag u7Qx"
LINES = [
    "a=ice-options:trickle ice2",
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=mid:0",
    "a=ice-ufrag:u7Qx",
    "a=ice-pwd:kVb3n0YwTz9aLq5rXc8dJm2h",
    f"a={CANDIDATE}",
    "a=candidate:2 1 tcp 1509957375 192.0.2.1 9 typ host tcptype active",
    "a=end-of-candidates",
]


def fragment(*lines: str) -> str:
    return "\r\n".join(lines) + "\r\n"


def test_what_a_browser_sends() -> None:
    parsed = parse_fragment(fragment(*LINES))
    first, second = parsed.candidates
    assert first == {
        "candidate": CANDIDATE,
        "sdpMid": "0",
        "sdpMLineIndex": None,
        "usernameFragment": "u7Qx",
    }
    assert second["candidate"].endswith("tcptype active")
    assert parsed.complete
    assert parsed.credentials == {("u7Qx", "kVb3n0YwTz9aLq5rXc8dJm2h")}


def test_what_clients_leave_out_or_put_elsewhere() -> None:
    """Line ends alone, no line end at the end, credentials of the session, another order."""
    text = "\n".join([*LINES[4:6], LINES[2], LINES[6], "a=mid:audio", "c=IN IP4 0.0.0.0"])
    parsed = parse_fragment(text)
    assert [(c["sdpMid"], c["usernameFragment"]) for c in parsed.candidates] == [("audio", "u7Qx")]
    assert not parsed.complete
    without = parse_fragment(fragment(*LINES[2:4], *LINES[6:]))
    assert without.candidates[0]["usernameFragment"] is None
    assert without.credentials == frozenset()
    ended = parse_fragment(fragment("a=end-of-candidates"))
    assert (ended.candidates, ended.complete) == ((), True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InvalidSDP),
        ("hello", InvalidSDP),
        (fragment("a=mid:0\x00"), InvalidSDP),
        (fragment("a=mid:0\r"), InvalidSDP),
        (fragment("a=mid:0", "", "a=mid:1"), InvalidSDP),
        (fragment("m=audio"), InvalidSDP),
        (fragment(f"a={CANDIDATE}"), InvalidSDP),
        (fragment(LINES[2], f"a={CANDIDATE}"), InvalidSDP),
        (fragment(LINES[2], "a=mid:0", "a=mid:1", f"a={CANDIDATE}"), InvalidSDP),
        (fragment(LINES[2], "a=mid:", f"a={CANDIDATE}"), InvalidSDP),
        (fragment(LINES[2], "a=mid:" + "0" * 257, f"a={CANDIDATE}"), InvalidSDP),
        (fragment("a=ice-ufrag:u7Qx"), InvalidSDP),
        (fragment("a=ice-pwd:kVb3n0YwTz9aLq5rXc8dJm2h"), InvalidSDP),
        (fragment("a=ice-ufrag:u7Qx", "a=ice-pwd:"), InvalidSDP),
        (fragment(*LINES[2:4], "a=candidate:"), InvalidCandidate),
        (fragment(*LINES[2:4], "a=candidate:1 1 udp 1 192.0.2.1 9 host"), InvalidCandidate),
        (fragment(*LINES[2:4], "a=candidate:1 one udp 1 192.0.2.1 9 typ host"), InvalidCandidate),
        (fragment(*LINES[2:4], f"a={CANDIDATE} {'x' * 1024} y"), InvalidCandidate),
        (fragment(*[LINES[2]] * (SECTIONS_MAX + 1)), TooLarge),
        (fragment(*LINES[2:4], *[f"a={CANDIDATE}"] * (CANDIDATES_MAX + 1)), TooLarge),
    ],
    ids=range(20),
)
def test_what_is_no_fragment(text: str, error: type[RayRTCError]) -> None:
    with pytest.raises(error):
        parse_fragment(text)


def test_as_much_as_there_may_be() -> None:
    sections = [LINES[2]] * SECTIONS_MAX
    parsed = parse_fragment(fragment(*sections, "a=mid:0", *[f"a={CANDIDATE}"] * CANDIDATES_MAX))
    assert len(parsed.candidates) == CANDIDATES_MAX
