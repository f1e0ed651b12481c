"""Fixtures for all tests, and how several processes share the work."""

import os
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.redis_server import RedisServer
from workers.ray_node import LOOPBACK

# Ray reads them when it is imported, which test modules do.
os.environ.update(LOOPBACK | {"RAY_AUTH_MODE": "token"})

SHARED = ("deployment", "talkers", "ray_node", "base_url")
"""Fixtures that take long to make: the tests that use one run in the same process."""
LONG = (
    "deployment",
    "base_url",
    "ray_node",
    "tests/network/test_cluster.py",
    "tests/control_plane/test_schemathesis.py",
    "tests/workers/test_reply_on_pause.py",
    "talkers",
    "tests/network/test_nat.py",
    "tests/network/test_turn_and_loss.py",
    "tests/e2e/test_dev_recovers.py",
    "tests/e2e/test_dev_leaves_nothing.py",
    "tests/workers/test_service.py",
)
"""Groups, or files of tests, that take half a minute and more, those first that take longest."""


@pytest.hookimpl(tryfirst=True)  # the plugin that forms the groups has the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Says which tests stay together, and which begin first, when several processes share them."""
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=rank)


def group_of(item: pytest.Function) -> str | None:
    """The shared fixture of a test, else the file when its tests share one; None: it runs alone."""
    fixtures = item._fixtureinfo.name2fixturedefs
    if shared := next((name for name in SHARED if name in fixtures), None):
        return shared
    scopes = {definitions[-1].scope for definitions in fixtures.values()}
    return item.nodeid.partition("::")[0] if "module" in scopes else None


def rank(item: pytest.Function) -> int:
    """Where a test comes: the place of its group in `LONG`, or behind all of them."""
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else item.nodeid.partition("::")[0]
    return LONG.index(group) if group in LONG else len(LONG)


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
