"""Where the tests across hosts run."""

import pytest

from tests.network.hosts import unusable


@pytest.fixture(scope="session", autouse=True)
def _usable() -> None:
    """Skips them where no hosts can be had; as root on Linux, what is missing is an error."""
    if why := unusable():
        pytest.skip(why)
