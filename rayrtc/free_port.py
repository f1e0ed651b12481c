"""A TCP port for a server that starts a while later."""

import random
import socket

FIRST, LAST = 20_000, 32_767
"""Below what systems give to sockets that name no port (Linux: 32768 to 60999, others: from 49152),
and above what Ray gives to its workers (10002 to 19999): both would take it in the meantime."""


def free_port() -> int:
    """A TCP port of that range on loopback that nobody has now.

    Raises:
        OSError: none of many is free.
    """
    for port in random.sample(range(FIRST, LAST + 1), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no TCP port of {FIRST}-{LAST} is free at 127.0.0.1")
