"""Credentials for TURN, asked of a server that stands for the providers."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

import rayrtc
from rayrtc import turn_credentials

ICE = {"iceServers": [{"urls": ["turn:turn.test:3478"], "username": "u", "credential": "c"}]}


class Provider(ThreadingHTTPServer):
    """Notes what it is asked and answers with `answer`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked: list[tuple[str, str, str, Any]] = []
        self.status = 200
        self.answer: Any = ICE

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorization = self.headers.get("Authorization", "")
        sent = json.loads(body) if body.startswith(b"{") else None
        self.server.asked.append((self.command, self.path, authorization, sent))
        text = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    for name in ("HF_TOKEN", "CLOUDFLARE_TURN_KEY_ID", "CLOUDFLARE_TURN_KEY_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Provider() as server:
        for name in ("CLOUDFLARE_URL", "TWILIO_URL"):
            monkeypatch.setattr(turn_credentials, name, server.url)
        monkeypatch.setattr(turn_credentials, "HUGGING_FACE_URL", server.url + "/credentials")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CLOUDFLARE = ("POST", "/key/credentials/generate-ice-servers", "Bearer secret", {"ttl": 60})
HUGGING_FACE = ("GET", "/credentials?ttl=600", "Bearer hf", None)


async def test_cloudflare_with_a_key(provider: Provider) -> None:
    assert rayrtc.get_cloudflare_turn_credentials("key", "secret", ttl=60) == ICE
    assert await rayrtc.get_cloudflare_turn_credentials_async("key", "secret", ttl=60) == ICE
    assert rayrtc.get_turn_credentials(turn_key_id="key", turn_key_api_token="secret", ttl=60)
    assert provider.asked == [CLOUDFLARE] * 3


async def test_cloudflare_with_a_token_from_the_environment(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf")
    assert rayrtc.get_turn_credentials() == ICE
    async with httpx.AsyncClient() as client:
        assert await rayrtc.get_turn_credentials_async(client=client) == ICE
    assert provider.asked == [HUGGING_FACE] * 2


async def test_hugging_face_is_deprecated(provider: Provider) -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        assert rayrtc.get_hf_turn_credentials("hf") == ICE
    with pytest.warns(UserWarning, match="deprecated"):
        assert await rayrtc.get_turn_credentials_async("hf", token="hf") == ICE
    assert provider.asked == [HUGGING_FACE] * 2


async def test_twilio_relays_only(provider: Provider) -> None:
    provider.answer = {"ice_servers": ICE["iceServers"]}
    expected = {**ICE, "iceTransportPolicy": "relay"}
    assert rayrtc.get_turn_credentials("twilio", twilio_sid="s", twilio_token="t") == expected
    basic = "Basic " + base64.b64encode(b"s:t").decode()
    assert provider.asked == [("POST", "/s/Tokens.json", basic, None)]
    with pytest.raises(NotImplementedError):
        await rayrtc.get_turn_credentials_async("twilio")


async def test_missing_and_refused_credentials(provider: Provider) -> None:
    with pytest.raises(ValueError, match="HF_TOKEN"):
        rayrtc.get_turn_credentials()
    with pytest.raises(ValueError, match="method"):
        rayrtc.get_turn_credentials("other")  # type: ignore[arg-type]
    provider.status = 403
    with pytest.raises(rayrtc.TurnCredentialsError, match="403"):
        rayrtc.get_cloudflare_turn_credentials(hf_token="hf")
    with pytest.raises(rayrtc.TurnCredentialsError, match="403"):
        await rayrtc.get_cloudflare_turn_credentials_async(hf_token="hf")
