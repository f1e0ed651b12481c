"""TCP ports of the benchmarks' servers, in a range of their own."""

import socket
from collections.abc import Iterator

FIRST, LAST = 24000, 24999


def _candidates() -> Iterator[int]:
    while True:
        yield from range(FIRST, LAST + 1)


_next = _candidates()


def free_port() -> int:
    """A port of the range on loopback that nobody listens on now.

    Raises:
        OSError: all of them are in use.
    """
    for _ in range(LAST - FIRST + 1):
        port = next(_next)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {FIRST}-{LAST} is free")
