"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.redis_server import RedisServer

SHARED = ("deployment", "talkers", "ray_node", "base_url")
"""Fixtures that take long to make: the tests that use one run in the same process."""


@pytest.hookimpl(tryfirst=True)  # the plugin that forms the groups has the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests stay together when several processes share the work.

    Those of a shared fixture, of a file with a fixture of its own, and else each alone.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = next((name for name in SHARED if name in fixtures), None)
        item.add_marker(pytest.mark.xdist_group(shared or item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(_redis_server: RedisServer) -> str:
    """URL of a real, empty Redis server, shared by the session's tests."""
    with Redis.from_url(_redis_server.url) as redis:
        redis.flushall()
    return _redis_server.url


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis server that the test may kill."""
    server = RedisServer(tmp_path_factory.mktemp("own-redis"))
    server.start()
    yield server
    server.kill()
