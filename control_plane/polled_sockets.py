"""Reads sockets at the ticks of a replica's clock, in place of its event loop.

The loop would wake up for each message of each call, and so would the worker that is sent it, which
costs more than the message. What comes in the same 10 ms is read and passed on together.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from selectors import EVENT_READ, DefaultSelector
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

TICK = 0.01
"""Seconds between two moments at which sockets are read."""
READ_MAX = 64 << 10
"""Bytes of a socket at one of them; what is more waits for the next."""


class PolledSocket:
    """The socket of a transport, read at ticks from `resume` until `pause` or `stop`.

    The transport's own reading is paused. It is resumed at the end of the stream and after an
    error, so that the transport finds out itself and tells its protocol.

    Args:
        sockets: those of the transport's loop.
        transport: of a plain TCP connection.
        take: called with each portion, in the context of who made this; what it raises is logged
            and aborts the transport.
    """

    def __init__(
        self, sockets: "PolledSockets", transport: asyncio.Transport, take: Callable[[bytes], None]
    ) -> None:
        self._sockets = sockets
        self._transport = transport
        self._take = take
        self._context = copy_context()
        self._descriptor = -1
        self._reading = False
        self._stopped = False

    def resume(self) -> None:
        """Read from the next tick on, unless the transport is closing."""
        if self._reading or self._stopped or self._transport.is_closing():
            return
        self._transport.pause_reading()
        self._descriptor = self._transport.get_extra_info("socket").fileno()
        self._sockets.add(self._descriptor, self)
        self._reading = True

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if self._reading:
            self._reading = False
            self._sockets.remove(self._descriptor)

    def stop(self) -> None:
        """Read nothing any more, not even after `resume`."""
        self.pause()
        self._stopped = True

    def read(self) -> bytes:
        """What there is; nothing at the end."""
        if self._transport.is_closing():
            self.stop()
            return b""
        try:
            data = os.read(self._descriptor, READ_MAX)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.stop()
            self._transport.resume_reading()
        return data

    def pass_on(self, data: bytes) -> None:
        """Have what was read taken."""
        self._context.run(self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        try:
            self._take(data)
        except Exception:
            logger.exception("what was sent over a WebSocket cannot be passed on")
            self._transport.abort()


class PolledSockets:
    """The polled sockets of one loop, in one selector.

    While nothing comes the loop waits for the selector. Then the sockets are read, and again every
    `TICK` seconds until a look finds nothing.
    """

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._awaited = False
        self._ticking = False

    def add(self, descriptor: int, polled: PolledSocket) -> None:
        """Read a socket from now on."""
        self._selector.register(descriptor, EVENT_READ, polled)
        if not self._ticking:
            self._wait(True)

    def remove(self, descriptor: int) -> None:
        """Read it no more."""
        self._selector.unregister(descriptor)
        if not self._selector.get_map():
            self._wait(False)

    def _wait(self, wait: bool) -> None:
        """Have the loop wait for the selector, or not any more."""
        loop = asyncio.get_running_loop()
        if wait and not self._awaited:
            # not in the context of the call that is there first, which all ticks would keep
            Context().run(loop.add_reader, self._selector.fileno(), self._tick)
        elif self._awaited and not wait:
            loop.remove_reader(self._selector.fileno())
        self._awaited = wait

    def _tick(self) -> None:
        ready = [key.data for key, _ in self._selector.select(0)]
        self._ticking = bool(ready)
        self._wait(not ready and bool(self._selector.get_map()))
        if ready:
            asyncio.get_running_loop().call_later(TICK, self._tick)
        # all are read first: to write to a peer that has reset may end what it has sent
        portions = [(polled, polled.read()) for polled in ready]
        for polled, data in portions:
            if data:
                polled.pass_on(data)


_polled: WeakKeyDictionary[asyncio.AbstractEventLoop, PolledSockets] = WeakKeyDictionary()


def polled_sockets() -> PolledSockets:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    if (sockets := _polled.get(loop)) is None:
        sockets = _polled[loop] = PolledSockets()
    return sockets
