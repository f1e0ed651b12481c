"""Runs a replica under uvicorn until it is told to stop."""

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from control_plane.app import create_app
from control_plane.client_socket import ClientSocket
from control_plane.forwarded import ForwardedHeaders
from control_plane.limits import FRAME_MAX
from control_plane.replica import Replica, replica_of
from rayrtc.loader import load
from rayrtc.settings import Settings

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""


WEBSOCKETS: dict[str, Any] = {
    # reads no further frame until the one before was taken
    "ws": ClientSocket,
    # the routes refuse what is over their own limit, and say so
    "ws_max_size": 2 * FRAME_MAX,
    "ws_ping_interval": 10.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": False,
}
"""uvicorn's options for WebSockets; times in seconds."""


def serve(spec: str, settings: Settings) -> None:
    """Serve the stream or application `spec` (MODULE:ATTR); returns after SIGTERM or SIGINT.

    Event streams end at once then, other requests may take as long as an offer does.

    Raises:
        ValueError: `spec` names no stream and no application with streams.
        SystemExit: the port is taken, or the application does not start; the reason is logged.
    """
    app = create_app(load(spec), settings)
    config = uvicorn.Config(
        ForwardedHeaders(app, settings.trusted_proxies),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        **WEBSOCKETS,
        proxy_headers=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.worker_timeout) + 1,
    )
    Server(config, replica_of(app)).run()


class Server(uvicorn.Server):
    """A server that ends the event streams of its replica when it stops."""

    def __init__(self, config: uvicorn.Config, replica: Replica) -> None:
        super().__init__(config)
        self._replica = replica

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT. Unlike uvicorn's own, the signal is not raised once more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then what uvicorn does."""
        self._replica.stop_streams()
        await super().shutdown(sockets)
