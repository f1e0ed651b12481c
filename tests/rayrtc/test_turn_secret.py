"""TURN credentials from a shared secret: with wrong ones, no call from behind a firewall."""

import base64
import hashlib
import hmac
import re
import time
from typing import Any

import pytest
from pydantic import ValidationError

from rayrtc.settings import Settings
from rayrtc.turn_secret import client_ice_servers, worker_ice_servers

URLS = "turn:turn.example.org:3478, turn:turn.example.org:443?transport=tcp,turns:[2001:db8::1]:443"


def test_credentials_are_what_the_turn_server_computes() -> None:
    settings = Settings(turn_urls=URLS, turn_secret="shared", turn_ttl=600)
    (server,) = client_ice_servers(settings)
    assert server["urls"] == URLS.replace(" ", "").split(",")
    expiry, name = server["username"].split(":")
    assert 595 < int(expiry) - time.time() <= 600
    assert re.fullmatch(r"[0-9a-f]{16}", name)
    computed = hmac.new(b"shared", server["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(server["credential"]) == computed
    assert client_ice_servers(settings)[0]["username"] != server["username"]


def test_workers_have_their_own_server_and_none_unless_it_is_set() -> None:
    assert client_ice_servers(Settings()) == worker_ice_servers(Settings()) == []
    assert worker_ice_servers(Settings(turn_urls=URLS, turn_secret="shared")) == []
    settings = Settings(worker_turn_url="turns:turn.example.org", turn_secret="shared")
    assert client_ice_servers(settings) == []
    assert worker_ice_servers(settings)[0]["urls"] == ["turns:turn.example.org"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"turn_urls": "turn.example.org"}, "turn_urls"),
        ({"turn_urls": "stun:turn.example.org"}, "turn_urls"),
        ({"turn_urls": "turn:turn.example.org?transport=sctp"}, "turn_urls"),
        ({"turn_urls": "turn:user:password@turn.example.org"}, "turn_urls"),
        ({"worker_turn_url": "turns:turn.example.org?transport=udp"}, "worker_turn_url"),
        ({"worker_turn_url": "turn:[2001:db8::1]"}, "worker_turn_url"),
        ({"worker_turn_url": "turn:a,turn:b"}, "worker_turn_url"),
        ({"turn_urls": URLS}, "turn_secret"),
        ({"worker_turn_url": "turn:turn.example.org"}, "turn_secret"),
        ({"turn_ttl": 5}, "turn_ttl"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**({"turn_secret": "shared"} if named != "turn_secret" else {}), **wrong)
    assert [error["loc"] for error in caught.value.errors()] == [(named,)]
