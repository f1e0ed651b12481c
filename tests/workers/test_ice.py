"""Candidates and configurations: a client whose candidate is misread never connects."""

import pytest
from aiortc import RTCIceTransportPolicy

from rayrtc.errors import InvalidCandidate
from workers.ice import MAX_CANDIDATE_BYTES, is_usable, parse_candidate, rtc_configuration

FIREFOX = "candidate:0 1 UDP 2122252543 192.168.1.7 54321 typ host"
CHROMIUM = (
    "candidate:1467250027 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 192.168.1.7 "
    "rport 46154 generation 0 ufrag EEtu network-id 1 network-cost 10"
)
MDNS = (
    "candidate:1 1 udp 2113937151 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 50000 typ host "
    "generation 0"
)


def candidate(text: object, **more: object) -> dict[str, object]:
    return {"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0, **more}


def test_a_candidate_of_firefox_has_eight_tokens() -> None:
    parsed = parse_candidate(candidate(FIREFOX))
    assert parsed is not None
    assert (parsed.ip, parsed.port, parsed.protocol, parsed.type) == (
        "192.168.1.7",
        54321,
        "udp",
        "host",
    )
    assert (parsed.sdpMid, parsed.sdpMLineIndex) == ("0", 0)
    assert is_usable(parsed)


def test_a_candidate_of_chromium_has_extensions() -> None:
    parsed = parse_candidate(candidate(CHROMIUM, usernameFragment="EEtu"))
    assert parsed is not None
    assert (parsed.relatedAddress, parsed.relatedPort) == ("192.168.1.7", 46154)


@pytest.mark.parametrize("text", [MDNS, FIREFOX.replace("192.168.1.7", "2001:db8::7")])
def test_mdns_names_and_ipv6_are_taken(text: str) -> None:
    assert parse_candidate(candidate(text)) is not None


@pytest.mark.parametrize("end", [None, candidate(""), {"candidate": ""}])
def test_null_and_empty_text_end_the_candidates(end: dict[str, object] | None) -> None:
    assert parse_candidate(end) is None


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        candidate(None),
        candidate(7),
        candidate(["x"]),
        candidate("garbage"),
        candidate("candidate:" + "a " * 20),
        candidate(FIREFOX.replace("192.168.1.7", "999.1.1.1")),
        candidate(FIREFOX.replace("192.168.1.7", "fe80::1%eth0")),
        candidate(FIREFOX.replace("192.168.1.7", "localhost")),
        candidate(FIREFOX.replace("54321", "65536")),
        candidate(FIREFOX.replace("54321", "-1")),
        candidate(FIREFOX.replace("54321", "٣")),
        candidate(FIREFOX.replace("2122252543", "9" * 5000)),
        candidate(FIREFOX.replace("UDP", "SCTP")),
        candidate(FIREFOX.replace("host", "nonsense")),
        candidate(CHROMIUM.replace("rport 46154", "rport x")),
        candidate(FIREFOX + " x" * MAX_CANDIDATE_BYTES),
        candidate(FIREFOX, sdpMid=None, sdpMLineIndex=None),
        candidate(FIREFOX, sdpMid=3),
        candidate(FIREFOX, sdpMLineIndex=True),
        candidate("\ud800" * 300),
    ],
)
def test_garbage_is_an_invalid_candidate(garbage: dict[str, object]) -> None:
    with pytest.raises(InvalidCandidate):
        parse_candidate(garbage)


@pytest.mark.parametrize(
    "text",
    [
        FIREFOX.replace("UDP", "TCP") + " tcptype active",
        FIREFOX.replace("0 1 UDP", "0 2 UDP"),
        FIREFOX.replace("54321", "0"),
    ],
)
def test_candidates_that_cannot_be_paired_are_told_apart(text: str) -> None:
    parsed = parse_candidate(candidate(text))
    assert parsed is not None
    assert not is_usable(parsed)


def test_without_a_configuration_there_are_no_servers() -> None:
    """aiortc's default STUN server costs 5 s where it cannot be reached."""
    assert rtc_configuration(None).iceServers == []
    assert rtc_configuration({}).iceServers == []


def test_all_members_of_a_configuration_are_used() -> None:
    configuration = rtc_configuration(
        {
            "iceServers": [
                {"urls": "stun:stun.example.org"},
                {
                    "urls": ["turn:turn.example.org?transport=tcp"],
                    "username": "u",
                    "credential": "c",
                },
            ],
            "iceTransportPolicy": "relay",
            "bundlePolicy": "max-bundle",
            "iceCandidatePoolSize": 2,
        }
    )
    assert configuration.iceServers is not None
    assert [server.username for server in configuration.iceServers] == [None, "u"]
    assert configuration.iceTransportPolicy is RTCIceTransportPolicy.RELAY
    assert configuration.bundlePolicy.value == "max-bundle"


def test_added_servers_come_after_those_of_the_stream() -> None:
    """aiortc uses the first TURN server: the one that the stream names, if it does."""
    added = [{"urls": ["turn:cluster.test"], "username": "u", "credential": "c"}]
    own = {"iceServers": [{"urls": "turn:stream.test"}], "iceTransportPolicy": "relay"}
    configuration = rtc_configuration(own, added)
    assert configuration.iceServers is not None
    assert [server.urls for server in configuration.iceServers] == [
        "turn:stream.test",
        ["turn:cluster.test"],
    ]
    assert configuration.iceTransportPolicy is RTCIceTransportPolicy.RELAY
    alone = rtc_configuration(None, added).iceServers
    assert alone is not None
    assert [(server.username, server.credential) for server in alone] == [("u", "c")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"iceServers": [{"urls": "http://example.org"}]},
        {"iceServers": ["stun:stun.example.org"]},
        {"iceServers": 5},
        {"iceTransportPolicy": "some"},
        {"bundlePolicy": "none"},
    ],
)
def test_a_wrong_configuration_is_found_when_the_worker_starts(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        rtc_configuration(wrong)
