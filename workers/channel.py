"""Messages between a handler and its client over the WebRTC data channel (RFC 8831)."""

import asyncio
import logging
from collections.abc import Callable

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from rayrtc.messages import create_message
from workers.outbox import Outbox, messages_dropped, messages_ignored

MAX_INCOMING_BYTES = 64 * 1024
HIGH_WATER = 256 * 1024
"""Bytes handed to SCTP and not sent yet, above which messages wait here."""

_FLUSH_POLL = 0.005
_FLUSH_GRACE = 0.02


class DataChannel(Outbox):
    """The `Channel` of a WebRTC connection. Messages wait in it until the client opens one.

    The first data channel that the client opens is used until it closes it; others are ignored.

    Args:
        loop: the loop that the peer connection runs on.
        on_close: called on the loop when the client ends the SCTP association, which a browser
            does when it closes its peer connection.
        log: carries the connection id.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_close: Callable[[], None],
        log: "logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        super().__init__(loop)
        self._on_close = on_close
        self._log = log
        self._channel: RTCDataChannel | None = None

    def attach(self, channel: RTCDataChannel) -> None:
        """Use a data channel that the client opened."""
        if self._channel is not None:
            self._log.info("a further data channel is ignored")
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = HIGH_WATER // 2
        channel.on("bufferedamountlow", self._transmit)
        channel.on("message", self._received)
        channel.on("close", self._closed_by_client)
        channel.on("open", self._transmit)
        self._transmit()

    async def flush(self, timeout: float) -> None:
        """Wait until the queued messages are on their way, `timeout` seconds at most.

        A channel that is still opening is waited for: the client of a handler that fails at once
        has to learn why.
        """
        deadline = self._loop.time() + timeout
        while self._loop.time() < deadline:
            if not self._pending and (self._channel is None or not self._channel.bufferedAmount):
                await asyncio.sleep(_FLUSH_GRACE)  # SCTP has it, and sends it on the next turns
                return
            await asyncio.sleep(_FLUSH_POLL)

    def _closed_by_client(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and channel.transport.state == "closed":
            self._on_close()

    def _transmit(self) -> None:
        channel = self._channel
        while channel is not None and channel.readyState == "open":
            if channel.bufferedAmount > HIGH_WATER:
                return
            if (message := self._next()) is None:
                return
            try:
                channel.send(message)
            except (ValueError, InvalidStateError) as error:
                messages_dropped.inc()
                self._log.info("a message could not be sent: %s", error)

    def _received(self, message: object) -> None:
        if not isinstance(message, str) or len(message.encode()) > MAX_INCOMING_BYTES:
            messages_ignored.inc()
            return
        # FastRTC's clients know from this answer that the channel works
        self.send(create_message("log", f"Server received: {message}"))
