"""What offer and answer say of Opus (RFC 7587, 6.1)."""

import re
from dataclasses import replace

from rayrtc.opus import BITRATES, OpusOptions

_OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000/2(?=\r?$)", re.IGNORECASE | re.MULTILINE)


def within_offer(options: OpusOptions, sdp: str) -> OpusOptions:
    """`options` with no more bits than the client wants to be sent (`maxaveragebitrate`)."""
    wanted = _parameters(sdp).get("maxaveragebitrate", "")
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
        return options
    most = max(BITRATES[0], int(wanted))
    return replace(options, bitrate=most) if most < options.bits(1) else options


def with_preferences(sdp: str, rate: int, channels: int) -> str:
    """An answer that says what this side makes of what it is sent.

    Args:
        rate: Hz that the handler gets: what is beyond half of it need not be coded.
        channels: that the handler gets.
    """
    if (found := _OPUS.search(sdp)) is None or f"a=fmtp:{found[1]} " in sdp:
        return sdp
    wants = f"minptime=10;useinbandfec=1;maxplaybackrate={rate};stereo={int(channels == 2)}"
    return f"{sdp[: found.end()]}\r\na=fmtp:{found[1]} {wants}{sdp[found.end() :]}"


def _parameters(sdp: str) -> dict[str, str]:
    if (found := _OPUS.search(sdp)) is None:
        return {}
    line = re.search(rf"^a=fmtp:{found[1]} (.*?)\r?$", sdp, re.MULTILINE)
    pairs = (pair.partition("=") for pair in (line[1] if line else "").split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
