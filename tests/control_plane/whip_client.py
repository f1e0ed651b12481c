"""Requests of WHIP and WHEP clients to a replica."""

import json
from typing import Any

from multidict import CIMultiDictProxy

from tests.control_plane.conftest import SDP, Api

OFFER = SDP.replace("sendrecv", "sendonly")
CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host"
FRAGMENT = (
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na={CANDIDATE}\r\na=end-of-candidates\r\n"
)
RESTART = FRAGMENT.replace("abcd", "wxyz")
SDP_TYPE = {"Content-Type": "application/sdp"}

Answer = tuple[int, CIMultiDictProxy[str], str]


async def ask(api: Api, method: str, path: str, data: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.session.request(method, api.url + path, data=data, headers=named) as response:
        return response.status, response.headers, await response.text()


async def publish(api: Api, path: str = "/whip", **headers: str) -> Answer:
    return await ask(api, "POST", path, OFFER, Content_Type="application/sdp", **headers)


async def patch(api: Api, path: str, data: str = FRAGMENT, **headers: str) -> Answer:
    named = {"Content_Type": "application/trickle-ice-sdpfrag", **headers}
    return await ask(api, "PATCH", path, data, **named)


def code(answer: Answer) -> tuple[int, str]:
    """Status and error of a failure in the common body."""
    body = json.loads(answer[2])
    assert body["status"] == "failed"
    return answer[0], body["meta"]["error"]
