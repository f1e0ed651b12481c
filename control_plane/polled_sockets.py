"""Reads sockets at the ticks of a replica's clock, in place of its event loop.

The loop would wake up for each message of each call, and so would the worker that is sent it, which
costs more than the message. What comes in the same 10 ms is read and passed on together.
"""

import asyncio
import logging
import math
import os
from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

TICK = 0.01
"""Seconds between two moments at which sockets are read."""
READ_MAX = 64 << 10
"""Bytes of a socket at one of them; what is more waits for the next."""


class PolledSocket:
    """A socket that is read so from `resume` until `pause` or `stop`.

    Args:
        sockets: those of the transport's loop.
        transport: of a plain TCP connection. It reads no more itself, but at the end of what there
            is to read, so that it tells its protocol.
        take: called with each portion; what it raises is logged and aborts the transport.
    """

    def __init__(
        self, sockets: "PolledSockets", transport: asyncio.Transport, take: Callable[[bytes], None]
    ) -> None:
        self._sockets = sockets
        self._transport = transport
        self._take = take
        self._descriptor = -1
        self._reading = False
        self._stopped = False

    def resume(self) -> None:
        """Read on; nothing of a transport that is closing."""
        if self._reading or self._stopped or self._transport.is_closing():
            return
        self._transport.pause_reading()
        self._descriptor = self._transport.get_extra_info("socket").fileno()
        self._reading = True
        self._sockets.add(self._descriptor, self)

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if self._reading:
            self._reading = False
            self._sockets.remove(self._descriptor)

    def stop(self) -> None:
        """Read nothing any more, not even after `resume`."""
        self.pause()
        self._stopped = True

    def read(self) -> None:
        """Take what there is."""
        if not self._reading or self._transport.is_closing():
            return
        try:
            data = os.read(self._descriptor, READ_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.stop()
            self._transport.resume_reading()
            return
        try:
            self._take(data)
        except Exception:
            logger.exception("what was sent over a WebSocket cannot be passed on")
            self._transport.abort()


class PolledSockets:
    """Those of one loop, which watches over all of them at once while nothing comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._selector = DefaultSelector()
        self._watched = False
        self._ticking = False

    def add(self, descriptor: int, polled: PolledSocket) -> None:
        """Read a socket from now on."""
        self._selector.register(descriptor, EVENT_READ, polled)
        if not self._ticking:
            self._watch(True)

    def remove(self, descriptor: int) -> None:
        """Read it no more."""
        self._selector.unregister(descriptor)
        if not self._selector.get_map():
            self._watch(False)

    def _watch(self, watch: bool) -> None:
        if watch and not self._watched:
            self._loop.add_reader(self._selector.fileno(), self._come)
        elif self._watched and not watch:
            self._loop.remove_reader(self._selector.fileno())
        self._watched = watch

    def _come(self) -> None:
        self._watch(False)
        self._schedule()

    def _schedule(self) -> None:
        """At the next tick that is not at hand already: uvloop's clock has whole milliseconds."""
        self._ticking = True
        self._loop.call_at(math.floor(self._loop.time() / TICK + 1.1) * TICK, self._tick)

    def _tick(self) -> None:
        ready = self._selector.select(0)
        for key, _ in ready:
            key.data.read()
        if ready:
            self._schedule()
            return
        self._ticking = False
        if self._selector.get_map():
            self._watch(True)


_polled: WeakKeyDictionary[asyncio.AbstractEventLoop, PolledSockets] = WeakKeyDictionary()


def polled_sockets_of(loop: asyncio.AbstractEventLoop) -> PolledSockets:
    """Those of a loop."""
    if (sockets := _polled.get(loop)) is None:
        sockets = _polled[loop] = PolledSockets(loop)
    return sockets
