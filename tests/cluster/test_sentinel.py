"""A Redis whose primary is named by Sentinels, and changes."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from rayrtc.cluster.inputs import InputReader, InputWriter
from rayrtc.cluster.models import InputEntry
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.descendants import die_with_parent
from rayrtc.embedded_redis import find_server
from rayrtc.free_port import free_port
from rayrtc.redis_url import parse
from tests.cluster.conftest import eventually, live, make_lease, make_settings
from tests.redis_server import RedisServer

PASSWORD = "of the primary"
SENTINEL_PASSWORD = "of the Sentinel"


class Group:
    """A primary, its replica and a Sentinel.

    Attributes:
        url: as rayrtc is given it; the first Sentinel in it is down.
    """

    def __init__(self, directory: Path) -> None:
        secret = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        (directory / "primary").mkdir()
        (directory / "replica").mkdir()
        self.primary = RedisServer(directory / "primary", *secret)
        of = ("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica = RedisServer(directory / "replica", *secret, *of)
        self._configuration = directory / "sentinel.conf"
        self._port = free_port()
        password = "%20".join(PASSWORD.split())
        self.url = (
            f"redis+sentinel://:{password}@127.0.0.1:{free_port()},127.0.0.1:{self._port}/calls"
            f"?sentinel_password={'%20'.join(SENTINEL_PASSWORD.split())}"
        )
        self._sentinel: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start(password=PASSWORD)
        self._configuration.write_text(
            f"port {self._port}\nbind 127.0.0.1\ndir {self._configuration.parent}\n"
            f'requirepass "{SENTINEL_PASSWORD}"\n'
            f"sentinel monitor calls 127.0.0.1 {self.primary.port} 1\n"
            f'sentinel auth-pass calls "{PASSWORD}"\n'
            "sentinel down-after-milliseconds calls 500\n"
            "sentinel failover-timeout calls 3000\n"
        )
        self._sentinel = subprocess.Popen(
            [find_server(), self._configuration, "--sentinel"],
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )

    def replicas(self) -> int:
        """How many the Sentinel knows."""
        try:
            with Redis(port=self._port, password=SENTINEL_PASSWORD) as sentinel:
                return len(sentinel.sentinel_slaves("calls"))
        except RedisConnectionError:
            return 0

    def kill(self) -> None:
        for server in (self.primary, self.replica):
            server.kill()
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait()


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    group = Group(tmp_path)
    try:
        group.start()
        await eventually(lambda: group.replicas() == 1, timeout=20)
        yield group
    finally:
        group.kill()


async def test_inputs_reach_their_worker_before_and_after_a_failover(group: Group) -> None:
    settings = make_settings(group.url, record_ttl=30.0, lease_ttl=20.0)
    pools = RedisPools(settings)
    registry = Registry(pools.commands, settings)
    writer = InputWriter(pools.commands, registry, settings)
    got: list[InputEntry] = []
    reading = asyncio.create_task(InputReader(pools.blocking, "w1", settings).run(got.append))
    try:
        await registry.renew(make_lease(), [])
        await asyncio.sleep(0.12)
        one = await registry.reserve("echo", 3, "c1")
        await registry.renew(make_lease(), live(one))
        await writer.set_input("c1", "[1]")
        await eventually(lambda: [entry.args for entry in got] == ["[1]"])
        group.primary.kill()
        async with asyncio.timeout(30):
            while True:
                try:
                    await registry.renew(make_lease(), live(one))
                    break
                except (RedisConnectionError, OSError):
                    await asyncio.sleep(0.1)
        assert (await pools.commands.info("replication"))["role"] == "master"
        await writer.set_input("c1", "[2]")
        await eventually(lambda: [entry.args for entry in got][-1] == "[2]", timeout=10)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await pools.aclose()


async def test_no_sentinel_is_an_error_that_says_so() -> None:
    pools = RedisPools(make_settings(f"redis+sentinel://127.0.0.1:{free_port()}/calls"))
    with pytest.raises(RedisConnectionError, match="No master found for 'calls'"):
        await pools.commands.ping()
    await pools.aclose()


def test_a_url_says_sentinels_service_database_and_both_passwords() -> None:
    url = (
        "rediss+sentinel://calls:a%40b@one,[::1]:7000,two:26380/main/2"
        "?ssl_ca_certs=/ca.crt&sentinel_username=asks&sentinel_password=word&socket_timeout=3"
    )
    assert parse(url) == (
        (("one", 26379), ("::1", 7000), ("two", 26380)),
        "main",
        "rediss://calls:a%40b@/2?ssl_ca_certs=%2Fca.crt&socket_timeout=3",
        {"username": "asks", "password": "word"},
    )
    pools = RedisPools(make_settings(url))
    options = pools.blocking.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("calls", "a@b", 2)
    assert options["ssl_ca_certs"] == "/ca.crt"
    assert options["socket_timeout"] == 3
    asked = pools.blocking.connection_pool.sentinel_manager.sentinels[1]
    options = asked.connection_pool.connection_kwargs
    assert (options["host"], options["port"]) == ("::1", 7000)
    assert (options["username"], options["password"]) == ("asks", "word")
    assert options["ssl_ca_certs"] == "/ca.crt"


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis",
        "unix+sentinel://host/main",
        "redis+sentinel://host",
        "redis+sentinel:///main",
        "redis+sentinel://host/main/x",
        "redis+sentinel://host:x/main",
        "redis+sentinel://host,/main",
        "redis+sentinel://host/main?sentinel_db=1",
    ],
)
def test_what_is_no_url_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"(begin|form|option|Port|host)"):
        make_settings(url)
