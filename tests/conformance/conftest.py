"""The system that the suite talks to: the one at `--base-url`, else one that is started for it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.deployment import running
from tests.conformance.long import Long, observe_all

FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--base-url", help="URL of a system that serves tests.conformance.app")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the deployment and for all calls."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """Without a slash at its end."""
    if given := pytestconfig.getoption("base_url", None):
        yield given.rstrip("/")
        return
    with running() as url:
        yield url


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest, base_url: str) -> Long:
    """What takes long, as far as the chosen tests need it."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]

    def values(name: str) -> list[Any]:
        return [params[name] for params in chosen if name in params]

    return asyncio.run(
        observe_all(base_url, values("cell"), values("conversation"), values("slow_rule"))
    )
