"""Running deployments that the end-to-end tests share: starting Ray takes most of their time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.stack import Stack, wait_until


@contextmanager
def started(stack: Stack) -> Iterator[Stack]:
    """The stack, ended whatever happens; its logs are printed when something goes wrong."""
    try:
        stack.start()
        yield stack
    except BaseException:
        for log in sorted(stack.logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def deployment() -> Iterator[Stack]:
    """What nearly all of them call."""
    with started(Stack()) as stack:
        yield stack


@pytest.fixture(scope="session")
def talkers() -> Iterator[Stack]:
    """Streams that answer: conversations last longest, so they have processes of their own."""
    with started(Stack("tests.e2e.talkers:app", workers=1)) as stack:
        yield stack


@pytest.fixture
def page_url(stack: Stack) -> str:
    """A replica that serves one stream, with its page at `/`."""
    if "page" not in stack.replicas:
        stack.start_replica("page", "tests.e2e.app:volume")
        stack.wait_ready()
    return stack.replicas["page"]


@pytest.fixture
def stack(deployment: Stack) -> Stack:
    """The deployment, whole again after what the test before did to it, and without its calls."""
    if "redis" not in deployment.processes:
        deployment.start_redis()
    for name in ("a", "b"):
        if name not in deployment.replicas:
            deployment.start_replica(name)
    deployment.wait_ready()
    # a browser that was closed is missed after half a minute only
    wait_until(lambda: not deployment.status()["connections"], 60, "no calls")
    return deployment
