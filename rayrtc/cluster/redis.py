"""How a process connects to Redis: which connections, deadlines; the Lua scripts by name."""

import asyncio
import secrets
from collections.abc import Iterable
from importlib import resources
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from rayrtc import redis_url
from rayrtc.cluster.commands import SharedConnection
from rayrtc.redis_url import Sentinels
from rayrtc.settings import Settings

BLOCKING_CONNECTIONS: Final = 8
"""Connections that stay in a blocking read: Pub/Sub and XREAD, one of each per process."""
CONNECT_TIMEOUT: Final = 2.0
"""Seconds to open a connection."""
ANSWER_TIMEOUT: Final = 3.0
"""Seconds to an answer of an ordinary command. All wait for a connection that a firewall has
forgotten, also the renewal of a lease: a worker is lost 6 s after its last one."""
SOCKET_TIMEOUT: Final = 5.0
"""Seconds to an answer; a blocking read asks for less."""
BLOCK_SECONDS: Final = 2.0
"""How long a blocking read waits for data before it asks again."""

RECONNECT_BASE: Final = 0.05
RECONNECT_CAP: Final = 1.0

UNREACHABLE: Final = (RedisError, OSError, TimeoutError)
"""What a command raises when Redis is away, restarts or refuses."""


class CancellableConnection(AbstractConnection):
    """Keeps a cancellation that arrives while a command is being sent.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that
    comes in the moment in which the sending is done: the task would then never end, and an
    `asyncio.timeout` round the command never expire.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a packed command within `socket_timeout`."""
        limit, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit):
                await super().send_packed_command(command, check_health)
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = limit


class RedisPools:
    """The connections of a process to Redis.

    Ordinary commands must never wait behind a blocking read, so those have connections of their
    own. A command is tried three times with short jittered pauses; long outages are its caller's
    affair, because each caller has a policy of its own.

    Attributes:
        commands: for ordinary commands, which share one connection.
        pages: for pages of outputs, which may be so large that others would wait for them; the
            same with a connection of their own.
        blocking: for XREAD and Pub/Sub; never retried here, its readers keep a cursor and do that.
    """

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {
            "max_connections": BLOCKING_CONNECTIONS,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": SOCKET_TIMEOUT,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "client_name": settings.cluster,
        }
        if not settings.redis_url.startswith("unix:"):
            options["socket_keepalive"] = True
        self._sentinel: Sentinel | None = None
        if (sentinels := redis_url.parse(settings.redis_url)) is None:
            self._pool = ConnectionPool.from_url(settings.redis_url, **options)
        else:
            self._sentinel = sentinel_of(sentinels)
            options |= primary_options(sentinels)  # as `from_url` does: the URL's count
            self._pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
                sentinels.service, self._sentinel, **options
            )
        # A class of its own for each of TCP, TLS and Unix sockets, which the URL chose.
        self._pool.connection_class = type(
            f"Cancellable{self._pool.connection_class.__name__}",
            (CancellableConnection, self._pool.connection_class),
            {},
        )
        self.commands: Redis = SharedConnection(self._pool, ANSWER_TIMEOUT)
        self.pages: Redis = SharedConnection(self._pool, SOCKET_TIMEOUT)
        self.blocking: Redis = Redis(connection_pool=self._pool)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.commands.aclose()
        await self.pages.aclose()
        await self._pool.disconnect()
        for sentinel in self._sentinel.sentinels if self._sentinel is not None else ():
            await sentinel.aclose()


def sentinel_of(url: Sentinels) -> Sentinel:
    """Asks the Sentinels in turn, the one that answered last first."""
    tls = {
        name: value
        for name, value in primary_options(url).items()
        if name == "ssl" or name.startswith("ssl_")
    }
    return Sentinel(  # type: ignore[no-untyped-call]
        url.addresses,
        sentinel_kwargs={
            "socket_timeout": CONNECT_TIMEOUT,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            **tls,
            **url.options,
        },
    )


def primary_options(url: Sentinels) -> dict[str, Any]:
    """What the URL says of the connections to the primary."""
    options: dict[str, Any] = {**parse_url(url.primary)}
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    return options


class Backoff:
    """Pauses between attempts to reach Redis: 0.05 s doubled up to 1 s, less a random part."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """The last attempt went well."""
        self._failures = 0

    @property
    def first(self) -> bool:
        """Whether no attempt has failed since the last success: what is worth a log line."""
        return self._failures == 0

    def next(self) -> float:
        """Seconds until the next attempt."""
        ceiling = min(RECONNECT_CAP, RECONNECT_BASE * (1 << self._failures))
        self._failures = min(self._failures + 1, 16)
        return ceiling * (0.5 + secrets.randbelow(1000) / 2000)


def script_text(name: str) -> str:
    """The Lua source `scripts/NAME.lua`."""
    return resources.files("rayrtc.cluster").joinpath("scripts", f"{name}.lua").read_text("utf-8")


def load_script(redis: Redis, name: str) -> AsyncScript:
    """`scripts/NAME.lua`, run with EVALSHA and sent again when Redis lost it."""
    return redis.register_script(script_text(name))
