"""What becomes of a WHIP client's offer. Failing, media flows the wrong way, or not at all."""

import pytest

from control_plane.whip_offer import credentials, mux_only, one_way
from rayrtc.errors import InvalidSDP
from tests.control_plane.conftest import SDP

BUNDLED = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=ice-ufrag:u7Qx
a=ice-pwd:kVb3n0YwTz9aLq5rXc8dJm2h
a=fingerprint:sha-256 AB:CD
a=setup:actpass
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
m=video 0 UDP/TLS/RTP/SAVPF 96
a=mid:1
a=bundle-only
a=sendonly
a=rtpmap:96 VP8/90000
m=application 0 UDP/DTLS/SCTP webrtc-datachannel
a=mid:2
a=bundle-only
"""
TRANSPORT = [
    "a=ice-ufrag:u7Qx",
    "a=ice-pwd:kVb3n0YwTz9aLq5rXc8dJm2h",
    "a=fingerprint:sha-256 AB:CD",
    "a=setup:actpass",
]


def test_sections_of_a_bundle_get_its_transport() -> None:
    """RFC 9725's own example leaves it out of the second section."""
    lines = one_way(BUNDLED, "sendonly").split("\r\n")
    video = lines[lines.index("a=mid:1") : lines.index("a=mid:2")]
    data = lines[lines.index("a=mid:2") :]
    assert [line for line in video if line in TRANSPORT] == TRANSPORT
    assert [line for line in data if line in TRANSPORT] == TRANSPORT
    assert "a=rtcp-mux" in video
    assert "a=rtcp-mux" not in data
    assert lines.count("a=sendonly") == 2
    assert one_way("\r\n".join(lines), "sendonly").split("\r\n") == lines


@pytest.mark.parametrize("direction", ["sendonly", "recvonly"])
def test_media_flows_one_way(direction: str) -> None:
    """Whether the client says both, its own, or nothing, which means both."""
    both, own, silent, session = (
        SDP,
        SDP.replace("a=sendrecv", f"a={direction}"),
        SDP.replace("a=sendrecv\r\n", ""),
        SDP.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", f"t=0 0\r\na={direction}\r\n"),
    )
    for sdp in (both, own, silent, session):
        lines = one_way(sdp, direction).split("\r\n")  # type: ignore[arg-type]
        assert [line for line in lines if line in ("a=sendrecv", f"a={direction}")] == [
            f"a={direction}"
        ]


@pytest.mark.parametrize("wrong", ["recvonly", "inactive"])
def test_media_the_other_way_is_refused(wrong: str) -> None:
    """RFC 9725, 4.2: MUST NOT be used."""
    with pytest.raises(InvalidSDP, match="sendonly or sendrecv"):
        one_way(SDP.replace("sendrecv", wrong), "sendonly")


@pytest.mark.parametrize("text", ["", "v=0", "a=group:BUNDLE ", "m=", "\x00", "a=group:BUNDLE 0"])
def test_what_is_no_offer_is_left_to_its_check(text: str) -> None:
    one_way(text, "sendonly")
    assert credentials(text) == ("", "")


def test_the_credentials_of_an_offer() -> None:
    assert credentials(BUNDLED) == ("u7Qx", "kVb3n0YwTz9aLq5rXc8dJm2h")
    moved = SDP.replace("a=ice-ufrag:abcd\r\n", "").replace("s=-", "s=-\r\na=ice-ufrag:wxyz")
    assert credentials(moved)[0] == "wxyz"


def test_an_answer_says_that_rtcp_is_multiplexed() -> None:
    answer = "m=audio\r\na=rtcp-mux\r\nm=video\r\na=rtcp-mux\r\n"
    assert mux_only(answer).split("\r\n") == [
        *("m=audio", "a=rtcp-mux", "a=rtcp-mux-only"),
        *("m=video", "a=rtcp-mux", "a=rtcp-mux-only", ""),
    ]
