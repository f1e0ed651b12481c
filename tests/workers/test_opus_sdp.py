"""What offer and answer say of Opus."""

import pytest

from rayrtc.opus import OpusOptions
from workers.opus_sdp import with_preferences, within_offer

SDP = "".join(
    line + "\r\n"
    for line in (
        "v=0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 0",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:0 PCMU/8000",
    )
)


@pytest.mark.parametrize(
    ("parameters", "bitrate"),
    [
        ("minptime=10;maxaveragebitrate=20000", 20_000),
        ("maxaveragebitrate=300", 6_000),
        ("maxaveragebitrate=128000", None),
        ("maxaveragebitrate=many", None),
        ("maxaveragebitrate=99999999999", None),
        ("useinbandfec=1", None),
        ("", None),
    ],
)
def test_a_client_may_ask_for_fewer_bits(parameters: str, bitrate: int | None) -> None:
    sdp = SDP + (f"a=fmtp:111 {parameters}\r\n" if parameters else "")
    assert within_offer(OpusOptions(), sdp).bitrate == bitrate


def test_an_offer_without_opus_changes_nothing() -> None:
    assert within_offer(OpusOptions(), "v=0\r\n") == OpusOptions()


def test_the_answer_says_what_the_handler_gets() -> None:
    lines = with_preferences(SDP, 16000, 2).split("\r\n")
    at = lines.index("a=rtpmap:111 opus/48000/2") + 1
    assert lines[at] == "a=fmtp:111 minptime=10;useinbandfec=1;maxplaybackrate=16000;stereo=1"
    assert lines[:at] + lines[at + 1 :] == SDP.split("\r\n")


def test_an_answer_without_opus_stays_as_it_is() -> None:
    assert with_preferences("v=0\r\n", 16000, 1) == "v=0\r\n"
