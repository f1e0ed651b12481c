"""URLs of Redis: of one server, or of the Sentinels that know which one is the primary."""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix")
SENTINEL: Final = "+sentinel"
SENTINEL_PORT: Final = 26379
SENTINEL_OPTION: Final = "sentinel_"


class Sentinels(NamedTuple):
    """What `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB?OPTION=VALUE` says.

    With `rediss` the primary and the Sentinels are reached by TLS. User, password and options are
    those of the primary; those of the Sentinels begin with `sentinel_`.

    Attributes:
        addresses: host and port of each Sentinel.
        service: the name that they have for the primary.
        primary: the rest as the URL of a server without an address.
        options: user name and password for the Sentinels.
    """

    addresses: tuple[tuple[str, int], ...]
    service: str
    primary: str
    options: dict[str, str]


def parse(url: str) -> Sentinels | None:
    """The Sentinels of a URL; None when it is that of one server.

    Raises:
        ValueError: it is neither.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.removesuffix(SENTINEL) not in SCHEMES:
        raise ValueError(
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
        )
    if not scheme.endswith(SENTINEL):
        return None
    parts = urlsplit(f"redis://{rest}")
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.removeprefix("/").partition("/")
    if scheme.startswith("unix") or not hosts or not service or not re.fullmatch(r"\d*", database):
        raise ValueError("is not of the form redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB")
    query = parse_qsl(parts.query)
    options = {
        name.removeprefix(SENTINEL_OPTION): value
        for name, value in query
        if name.startswith(SENTINEL_OPTION)
    }
    if not options.keys() <= {"username", "password"}:
        raise ValueError("has another option of Sentinels than sentinel_username and _password")
    own = urlencode([pair for pair in query if not pair[0].startswith(SENTINEL_OPTION)])
    return Sentinels(
        tuple(_address(host) for host in hosts.split(",")),
        unquote(service),
        f"{scheme.removesuffix(SENTINEL)}://{user}{at}/{database or 0}?{own}",
        options,
    )


def masked(url: str) -> str:
    """A URL without its passwords; any other text as it is."""
    url = re.sub(r"(://[^:/@]*:)[^@]*@", r"\1********@", url)
    return re.sub(r"([?&](?:\w+_)?password=)[^&]*", r"\1********", url)


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    port = parts.port  # ValueError: it is none
    if not parts.hostname:
        raise ValueError("has a Sentinel without a host")
    return parts.hostname, SENTINEL_PORT if port is None else port
