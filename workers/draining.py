"""Empties a worker that has to go: no new calls, the running ones until a deadline."""

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Protocol

from rayrtc.cluster.models import Drain, EndReason, LiveConnection

logger = logging.getLogger(__name__)

PACE = 0.05
"""Seconds between two calls that are closed: their clients connect again, and not all at once."""


class Connections(Protocol):
    """What it needs of the worker's connections."""

    accepting: bool

    def live(self) -> Sequence[LiveConnection]:
        """The connections that hold a slot."""

    async def close(self, connection_id: str, reason: EndReason) -> None:
        """End one connection."""


class Draining:
    """Waits to be asked to drain, then sees to it that the worker becomes empty."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._deadline = math.inf
        self._asked = asyncio.Event()

    def ask(self, drain: Drain) -> None:
        """Take no new connections from now on. Of several requests the sooner deadline counts."""
        if self._connections.accepting:
            logger.info("draining with %d connections", len(self._connections.live()))
        self._connections.accepting = False
        deadline = self._loop.time() + (0.0 if drain.reconnect else drain.seconds)
        if deadline < self._deadline:
            self._deadline = deadline
            self._asked.set()

    @property
    def left(self) -> float:
        """Seconds until what is left is closed, negative after that; infinite while none is set."""
        return self._deadline - self._loop.time()

    async def run(self) -> None:
        """Close what is left when its time is over. Never returns."""
        while True:
            self._asked.clear()
            remaining = self.left
            if remaining <= 0:
                break
            try:
                async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                    await self._asked.wait()
            except TimeoutError:
                pass
        while True:  # an offer that was accepted before may still be on its way
            await self._close_all()
            await asyncio.sleep(PACE)

    async def _close_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for connection in self._connections.live():
                work = self._connections.close(connection.connection_id, EndReason.DRAINED)
                tasks.create_task(work)
                await asyncio.sleep(PACE)
