"""The forms in which WHIP clients write offers of sound and pictures, none with candidates.

Failing, one of them cannot publish.
"""

import asyncio
from typing import Any

import pytest

from control_plane.assignment import check_sdp
from control_plane.whip_offer import one_way
from rayrtc import AsyncAudioVideoStreamHandler
from rayrtc.errors import UnsupportedTrack
from tests.workers.host import hosting


class Deaf(AsyncAudioVideoStreamHandler):
    def copy(self) -> "Deaf":
        return Deaf()

    async def receive(self, frame: Any) -> None:
        pass

    async def emit(self) -> None:
        await asyncio.sleep(1)

    async def video_receive(self, frame: Any) -> None:
        pass

    async def video_emit(self) -> Any:
        await asyncio.sleep(1)


TRANSPORT = [
    *("a=ice-ufrag:u7Qx", "a=ice-pwd:kVb3n0YwTz9aLq5rXc8dJm2h", "a=ice-options:trickle"),
    *("a=fingerprint:sha-256 " + ":".join(["AB"] * 32), "a=setup:actpass"),
]
OPUS = ["a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;stereo=1;useinbandfec=1"]
VP8 = [
    *("a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack pli"),
    *("a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"),
]


def h264(profile: str) -> list[str]:
    fmtp = f"a=fmtp:96 profile-level-id={profile};packetization-mode=1;level-asymmetry-allowed=1"
    return ["a=rtpmap:96 H264/90000", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 goog-remb", fmtp]


def offer(where: str, video: list[str]) -> str:
    """A bundle whose transport is said in the session, in each section, or in the first alone."""
    session = TRANSPORT if where == "session" else []
    first = ["a=rtcp-mux", *(TRANSPORT if where != "session" else [])]
    second = [] if where == "first" else first
    port = 0 if where == "first" else 9
    formats = " ".join(["96", "97"][: 2 if "rtx" in "".join(video) else 1])
    lines = [
        *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", *session),
        *("m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly"),
        *("a=msid:one sound", *first, *OPUS),
        *(f"m=video {port} UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0", "a=mid:1"),
        *("a=sendonly", "a=msid:one pictures", *second, *video),
    ]
    if where == "first":
        lines.append("a=bundle-only")
    return "\r\n".join(lines) + "\r\n"


async def answer(sdp: str) -> str:
    text = one_way(sdp, "sendonly")
    check_sdp(text)
    async with hosting(Deaf(), modality="audio-video", mode="send") as host:
        return (await host.connections.offer(host.request("a", text))).sdp


@pytest.mark.parametrize("where", ["session", "each", "first"])
@pytest.mark.parametrize(
    "video", [VP8, h264("42e01f"), h264("42001f")], ids=["VP8", "H264", "H264 baseline"]
)
async def test_both_are_taken(where: str, video: list[str]) -> None:
    lines = (await answer(offer(where, video))).split("\r\n")
    assert lines.count("a=recvonly") == 2
    assert lines.count("a=setup:passive") == 2
    assert "a=group:BUNDLE 0 1" in lines
    assert video[0] in lines


async def test_another_profile_alone_is_refused() -> None:
    """RFC 9725, 4.4.3: not taken in part."""
    with pytest.raises(UnsupportedTrack):
        await answer(offer("each", h264("640032")))
