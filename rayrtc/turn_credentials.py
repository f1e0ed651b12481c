"""TURN servers with credentials of a limited time, as a stream's `rtc_configuration` takes them.

Each function asks a provider over HTTPS. Use one as `rtc_configuration=get_turn_credentials_async`,
so that every client gets credentials of its own.
"""

import os
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import httpx

CLOUDFLARE_URL = "https://rtc.live.cloudflare.com/v1/turn/keys"
HUGGING_FACE_URL = "https://turn.fastrtc.org/credentials"
TWILIO_URL = "https://api.twilio.com/2010-04-01/Accounts"
TIMEOUT = 10.0
"""Seconds that a provider may take."""

Method = Literal["hf", "twilio", "cloudflare"]


class TurnCredentialsError(Exception):
    """The provider refused."""


class _Request(NamedTuple):
    """An HTTP request, the same for the sync and the async client."""

    method: str
    url: str
    headers: dict[str, str]
    params: dict[str, Any] | None = None
    json: dict[str, Any] | None = None


def get_cloudflare_turn_credentials(
    turn_key_id: str | None = None,
    turn_key_api_token: str | None = None,
    hf_token: str | None = None,
    ttl: int = 600,
) -> dict[str, Any]:
    """ICE servers from Cloudflare, with a Hugging Face token or with a key of your own.

    Args:
        turn_key_id: Cloudflare's key; default `CLOUDFLARE_TURN_KEY_ID` of the environment.
        turn_key_api_token: default `CLOUDFLARE_TURN_KEY_API_TOKEN` of the environment.
        hf_token: is used in place of the key; default `HF_TOKEN` of the environment.
        ttl: seconds that the credentials are valid.

    Raises:
        ValueError: neither a token nor a key is known.
        TurnCredentialsError: the provider refused.
    """
    return _send(_cloudflare(turn_key_id, turn_key_api_token, hf_token, ttl))


async def get_cloudflare_turn_credentials_async(
    turn_key_id: str | None = None,
    turn_key_api_token: str | None = None,
    hf_token: str | None = None,
    ttl: int = 600,
    client: "httpx.AsyncClient | None" = None,
) -> dict[str, Any]:
    """`get_cloudflare_turn_credentials` for the event loop; `client` is used if it is given."""
    return await _send_async(_cloudflare(turn_key_id, turn_key_api_token, hf_token, ttl), client)


def get_hf_turn_credentials(token: str | None = None, ttl: int = 600) -> dict[str, Any]:
    """ICE servers for a Hugging Face token. Deprecated: `get_cloudflare_turn_credentials`.

    Args:
        token: default `HF_TOKEN` of the environment.
        ttl: seconds that the credentials are valid.

    Raises:
        ValueError: no token is known.
        TurnCredentialsError: the provider refused.
    """
    _warn_of_hf("get_hf_turn_credentials")
    return _send(_hugging_face(token or os.environ.get("HF_TOKEN"), ttl))


async def get_hf_turn_credentials_async(
    token: str | None = None, ttl: int = 600, client: "httpx.AsyncClient | None" = None
) -> dict[str, Any]:
    """`get_hf_turn_credentials` for the event loop; `client` is used if it is given."""
    _warn_of_hf("get_hf_turn_credentials_async")
    return await _send_async(_hugging_face(token or os.environ.get("HF_TOKEN"), ttl), client)


def get_twilio_turn_credentials(
    twilio_sid: str | None = None, twilio_token: str | None = None
) -> dict[str, Any]:
    """ICE servers of a Twilio account, to be used as relays only.

    Args:
        twilio_sid: default `TWILIO_ACCOUNT_SID` of the environment.
        twilio_token: default `TWILIO_AUTH_TOKEN` of the environment.

    Raises:
        ValueError: no account is known.
        TurnCredentialsError: Twilio refused.
    """
    sid = twilio_sid or os.environ.get("TWILIO_ACCOUNT_SID")
    token = twilio_token or os.environ.get("TWILIO_AUTH_TOKEN")
    if not sid or not token:
        raise ValueError("give twilio_sid and twilio_token, or set TWILIO_ACCOUNT_SID and _TOKEN")
    import httpx

    url = f"{TWILIO_URL}/{sid}/Tokens.json"
    answer = _checked(httpx.post(url, auth=(sid, token), timeout=TIMEOUT))
    return {"iceServers": answer["ice_servers"], "iceTransportPolicy": "relay"}


def get_turn_credentials(method: Method = "cloudflare", **kwargs: Any) -> dict[str, Any]:
    """ICE servers of a provider, whose function gets `kwargs`.

    Raises:
        ValueError: there is no such method, or its credentials are not known.
        TurnCredentialsError: the provider refused.
    """
    providers: dict[str, Callable[..., dict[str, Any]]] = {
        "hf": get_hf_turn_credentials,
        "cloudflare": get_cloudflare_turn_credentials,
        "twilio": get_twilio_turn_credentials,
    }
    if method not in providers:
        raise ValueError(f"method must be one of {', '.join(providers)}, got {method!r}")
    return providers[method](**kwargs)


async def get_turn_credentials_async(
    method: Method = "cloudflare", **kwargs: Any
) -> dict[str, Any]:
    """`get_turn_credentials` for the event loop; takes `client` too.

    Raises:
        NotImplementedError: Twilio has no async function.
    """
    if method == "twilio":
        raise NotImplementedError("Twilio's credentials have no async function")
    providers: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "hf": get_hf_turn_credentials_async,
        "cloudflare": get_cloudflare_turn_credentials_async,
    }
    if method not in providers:
        raise ValueError(f"method must be one of {', '.join(providers)}, got {method!r}")
    return await providers[method](**kwargs)


def _cloudflare(key: str | None, key_token: str | None, hf_token: str | None, ttl: int) -> _Request:
    # A key that was passed counts more than a token that happens to be in the environment.
    if hf_token is None and not (key and key_token):
        hf_token = os.environ.get("HF_TOKEN", "").strip()
    if hf_token:
        return _hugging_face(hf_token, ttl)
    key = key or os.environ.get("CLOUDFLARE_TURN_KEY_ID")
    key_token = key_token or os.environ.get("CLOUDFLARE_TURN_KEY_API_TOKEN")
    if not key or not key_token:
        raise ValueError(
            "set HF_TOKEN, or CLOUDFLARE_TURN_KEY_ID and CLOUDFLARE_TURN_KEY_API_TOKEN"
        )
    return _Request(
        "POST",
        f"{CLOUDFLARE_URL}/{key}/credentials/generate-ice-servers",
        {"Authorization": f"Bearer {key_token}"},
        json={"ttl": ttl},
    )


def _hugging_face(token: str | None, ttl: int) -> _Request:
    if not token:
        raise ValueError("give a Hugging Face token, or set HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"}
    return _Request("GET", HUGGING_FACE_URL, headers, params={"ttl": ttl})


def _warn_of_hf(name: str) -> None:
    warnings.warn(f"{name} is deprecated: use the cloudflare function", stacklevel=3)


def _send(request: _Request) -> dict[str, Any]:
    import httpx

    return _checked(httpx.request(**request._asdict(), timeout=TIMEOUT))


async def _send_async(request: _Request, client: "httpx.AsyncClient | None") -> dict[str, Any]:
    import httpx

    if client is not None:
        return _checked(await client.request(**request._asdict(), timeout=TIMEOUT))
    async with httpx.AsyncClient() as own:
        return _checked(await own.request(**request._asdict(), timeout=TIMEOUT))


def _checked(response: "httpx.Response") -> dict[str, Any]:
    if not response.is_success:
        raise TurnCredentialsError(
            f"no TURN credentials: status {response.status_code}: {response.text[:500]}"
        )
    answer: dict[str, Any] = response.json()
    return answer
