"""What a connection needs of its transport, whichever that is: WebRTC, or another one."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiortc import RTCIceCandidate

from rayrtc.errors import UnknownConnection
from rayrtc.handlers import StreamHandlerBase
from rayrtc.messages import Channel
from workers.media import Media

Log = logging.LoggerAdapter[logging.Logger]
"""Carries the connection id."""


class Events(Protocol):
    """What a transport tells its connection, on the loop."""

    def connected(self) -> None:
        """Media can flow."""

    def failed(self) -> None:
        """It cannot, or no more."""

    def closed(self) -> None:
        """The client closed the connection, or vanished."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a part of the connection until its end; one that fails ends the connection."""


class MessageChannel(Channel, Protocol):
    """Control messages to the client."""

    async def flush(self, timeout: float) -> None:
        """Wait until the queued messages are on their way, `timeout` seconds at most."""

    def close(self) -> None:
        """Drop what is queued and take nothing more."""


class Transport(ABC):
    """The way between one client and its handler.

    A connection calls `check`, `prepare`, `answer`, `start`, `receive` and `close` in this order;
    `close` may come after any of them.
    """

    websocket: str | None = None
    """As `get_current_context().websocket` gives it."""
    channel: MessageChannel
    media: Media
    """Set by `prepare`."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot be served, before anything is made for it.

        Raises:
            RayRTCError: why.
        """

    @abstractmethod
    def prepare(self, handler: StreamHandlerBase) -> None:
        """Make the buffers that `handler` reads from and writes to."""

    @abstractmethod
    async def answer(self) -> str:
        """What the client is answered.

        Raises:
            RayRTCError: the client cannot be served.
            OSError: no socket can be had.
        """

    @abstractmethod
    def start(self) -> None:
        """The client has its answer: connect, and tell `Events.connected` when media can flow."""

    @abstractmethod
    def receive(self) -> None:
        """Let the client's media flow to the handler."""

    async def played(self) -> None:
        """Wait until the client has heard what the handler emitted."""
        await self.media.drained()

    @property
    def playing(self) -> bool:
        """Whether the client still hears what the handler emitted. May be asked on any thread."""
        return self.media.playing

    def clear(self) -> None:
        """Drop what the client has not heard yet. May be called from any thread."""
        self.media.clear()

    @abstractmethod
    async def close(self) -> None:
        """Close everything, on the network too."""

    def add_candidate(self, candidate: RTCIceCandidate | None) -> None:
        """Take a trickled candidate of the client; None is the end of them.

        Raises:
            UnknownConnection: the transport has no ICE.
            TooLarge: it has its most.
        """
        raise UnknownConnection


TransportFactory = Callable[[Events, Log], Transport]
"""Makes the transport of a connection."""
