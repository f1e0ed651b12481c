"""Incoming calls: the address that Twilio is given, and proof that Twilio asks."""

import re
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from control_plane.twilio import signature
from rayrtc import Stream
from rayrtc.settings import Settings
from tests.control_plane.conftest import Replica, Silence, make_stream

TOKEN = "the token of the tests"
SIGNED: dict[str, Any] = {"twilio_auth_token": SecretStr(TOKEN)}


async def stream_url(api: Any, path: str = "", **headers: str) -> str:
    url = api.url + path + "/telephone/incoming"
    async with api.session.post(url, data={"CallSid": "CA1"}, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "application/xml"
        (found,) = re.findall(r'<Connect><Stream url="([^"]*)"', await response.text())
        return str(found)


async def test_the_address_is_the_one_that_the_caller_used(replica: Replica) -> None:
    """Defect 13: the stream URL dropped the port."""
    app = FastAPI()
    make_stream().mount(app)
    make_stream(name="second").mount(app, "/en/calls")
    api = await replica(app)
    host = api.url.removeprefix("http://")
    assert await stream_url(api) == f"wss://{host}/telephone/handler"
    assert await stream_url(api, "/en/calls") == f"wss://{host}/en/calls/telephone/handler"
    assert await stream_url(api, Host="a.example") == "wss://a.example/telephone/handler"


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "voice.example.com",
    "X-Forwarded-Port": "8443",
    "X-Forwarded-Prefix": "/tenant/a/",
}


async def test_a_trusted_proxy_tells_the_address(replica: Replica) -> None:
    api = await replica()
    url = "wss://voice.example.com:8443/tenant/a/telephone/handler"
    assert await stream_url(api, **FORWARDED) == url
    standard = {**FORWARDED, "X-Forwarded-Port": "443", "X-Forwarded-Prefix": ""}
    assert await stream_url(api, **standard) == "wss://voice.example.com/telephone/handler"
    garbled = {"X-Forwarded-Host": 'x"/><Dial>', "X-Forwarded-Prefix": "//evil", "Host": "h:1"}
    assert await stream_url(api, **garbled) == "wss://h:1/telephone/handler"


async def test_anybody_else_does_not(replica: Replica) -> None:
    api = await replica(trusted_proxies=("10.0.0.0/8",))
    host = api.url.removeprefix("http://")
    assert await stream_url(api, **FORWARDED) == f"wss://{host}/telephone/handler"


def test_proxies_are_addresses_or_networks() -> None:
    assert Settings(trusted_proxies="10.0.0.0/8, ::1").trusted_proxies == ("10.0.0.0/8", "::1")
    with pytest.raises(ValidationError, match="everywhere"):
        Settings(trusted_proxies="everywhere")


async def test_an_application_says_its_own_words(replica: Replica) -> None:
    class Ours(Stream):
        def twiml(self, url: str) -> str:
            return f"<Response><Say>Hi</Say>{super().twiml(url)[-20:]}</Response>"

    api = await replica(Ours(Silence(), modality="audio"))
    async with api.session.post(api.url + "/telephone/incoming") as response:
        assert "<Say>Hi</Say>" in await response.text()


def test_the_signature_of_twilios_documentation() -> None:
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature(url, form.items(), "12345") == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


async def test_requests_that_twilio_has_not_signed_are_refused(replica: Replica) -> None:
    """Defect 13: the Twilio signature was not checked."""
    api = await replica(**SIGNED)
    form = {"CallSid": "CA1", "From": "+1 555", "Empty": ""}
    seen = "https://voice.example.com/telephone/incoming"
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "voice.example.com"}

    async def post(**headers: str) -> tuple[int, str]:
        async with api.session.post(
            api.url + "/telephone/incoming",
            data=urlencode(form),
            headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
        ) as response:
            return response.status, await response.text()

    good = signature(seen, form.items(), TOKEN)
    assert (await post(**forwarded, **{"X-Twilio-Signature": good}))[0] == 200
    with_port = signature(seen.replace(".com/", ".com:443/"), form.items(), TOKEN)
    assert (await post(**forwarded, **{"X-Twilio-Signature": with_port}))[0] == 200
    wrong = [
        signature(seen, form.items(), "another token"),
        signature(seen + "?x", form.items(), TOKEN),
        signature(seen, [("CallSid", "CA2")], TOKEN),
        "\u00e9",
        "",
    ]
    for given in wrong:
        status, text = await post(**forwarded, **{"X-Twilio-Signature": given})
        assert (status, "forbidden" in text) == (403, True)
    assert (await post())[0] == 403


async def test_so_are_handshakes(replica: Replica) -> None:
    """Defect 13: the Twilio signature was not checked, of WebSockets neither."""
    api = await replica(**SIGNED)
    url = api.url + "/telephone/handler"
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await api.session.ws_connect(url)
    for seen in (url.replace("http", "wss"), url.replace("http", "wss") + "/"):
        headers = {"X-Twilio-Signature": signature(seen, (), TOKEN)}
        async with api.session.ws_connect(url, headers=headers) as socket:
            await socket.send_str("[]")
            assert (await socket.receive_json(timeout=5))["meta"]["error"] == "invalid_message"
    async with api.session.ws_connect(api.url + "/websocket/offer") as socket:
        await socket.send_str("[]")
        assert (await socket.receive_json(timeout=5))["meta"]["error"] == "invalid_message"
