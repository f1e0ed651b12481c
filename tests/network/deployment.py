"""A whole deployment on one host of a network, for clients on others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.stack import Stack
from tests.network.hosts import Host


@dataclass(frozen=True)
class Deployment:
    """The URLs of its two replicas, as other hosts see them, and their TCP ports.

    `page` has the echo alone, with its page at `/`; `app` all of `tests/network/echoes.py`.
    """

    page: str
    app: str
    ports: tuple[int, int]


@contextmanager
def deployed(host: Host, **settings: str) -> Iterator[Deployment]:
    """Redis, a worker on a Ray of its own and two replicas on `host`.

    Args:
        settings: RAYRTC_... variables over those of `Stack`.
    """
    stack = Stack("tests.network.echoes:app", workers=1)
    del stack.env["RAYRTC_ICE_ADDRESSES"]  # the host's own instead of loopback
    stack.env |= {"RAYRTC_HOST": "0.0.0.0", "RAYRTC_CONNECT_TIMEOUT": "30", **settings}
    try:
        with host.entered():
            stack.start_redis()
            stack.start_workers()
            urls = [
                stack.start_replica("page", "tests.network.echoes:echo"),
                stack.start_replica("a"),
            ]
            stack.wait_ready()
        page, app = (url.replace("127.0.0.1", host.address) for url in urls)
        yield Deployment(page, app, tuple(int(url.rpartition(":")[2]) for url in urls))
    except BaseException:
        for log in sorted(stack.logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        stack.stop()
