"""Credentials of a limited time for TURN servers that share a secret with this cluster.

What coturn calls `use-auth-secret` (draft-uberti-behave-turn-rest-00): the user name carries the
time of expiry, and the password is computed from it, so that nobody has to be told of either.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any

from rayrtc.settings import Settings


def client_ice_servers(settings: Settings) -> list[dict[str, Any]]:
    """What a client is given beside the servers of its stream: `RTCIceServer` members, or none."""
    return _ice_servers(settings.turn_urls, settings)


def worker_ice_servers(settings: Settings) -> list[dict[str, Any]]:
    """The same for a worker's side of one connection."""
    return _ice_servers(
        () if settings.worker_turn_url is None else (settings.worker_turn_url,), settings
    )


def turn_password(secret: str, username: str) -> str:
    """The password of a user name, as the TURN server computes it."""
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode()


def _ice_servers(urls: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    if not urls or settings.turn_secret is None:
        return []
    # a name of its own: coturn's quotas, and what its log says of a user, go by the name
    username = f"{int(time.time()) + settings.turn_ttl}:{secrets.token_hex(8)}"
    password = turn_password(settings.turn_secret.get_secret_value(), username)
    return [{"urls": list(urls), "username": username, "credential": password}]
