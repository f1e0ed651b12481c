"""A TCP port for a server that starts a while later."""

import itertools
import random
import socket

FIRST, LAST = 20_000, 29_999
"""Below what systems give to sockets that name no port (Linux: 32768 to 60999, others: from 49152)
and above what Ray gives to its workers (10002 to 19999): either might take it in the meantime."""

_ports = itertools.cycle(random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST))


def free_port() -> int:
    """A TCP port of that range on loopback that nobody has now; another one each time.

    Raises:
        OSError: none of a hundred is free.
    """
    for port in itertools.islice(_ports, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no TCP port is free at 127.0.0.1")
