"""What ICE and DTLS lose on a bad network is sent again sooner than aioice and OpenSSL do.

Both wait half a second or a whole one, and twice as long each time. With a fifth of the packets
lost half of the calls took 1.4 s or more to connect, some 15 s, and some did not within 30.
Browsers send again after 50 ms. `workers.patches` puts these functions in their places.
"""

import asyncio

from aioice import stun
from aioice.ice import Connection, StunProtocol
from aiortc import RTCDtlsTransport, RTCIceTransport

DTLS_PAUSES = (0.1, 0.2, 0.3)
"""Seconds before a flight is sent again, until OpenSSL itself does after 1 s."""

_check_incoming = Connection.check_incoming
_do_handshake = RTCDtlsTransport._do_handshake


def check_incoming(
    self: Connection, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
) -> None:
    """Take a check of the other side, and repeat the own one that waits for an answer.

    The other side is there and still looks for a pair: what it was sent may be lost. RFC 8445,
    7.3.1.4 asks for a new check; to repeat the old one keeps an answer valid that is on its way.
    """
    waiting = list(protocol.transactions.values())
    _check_incoming(self, message, addr, protocol)
    if not self._check_list_done:
        for transaction in waiting:
            if transaction._Transaction__addr == addr:  # type: ignore[attr-defined]
                protocol.send_stun(transaction._Transaction__request, addr)  # type: ignore[attr-defined]


async def do_handshake(self: RTCDtlsTransport) -> None:
    """The DTLS handshake; what is sent is repeated until the next thing is, at most three times.

    A receiver drops the same record when it comes twice (RFC 6347, 4.1.2.6), so this cannot confuse
    it. OpenSSL's own timer makes new records, but not of the server's last flight, as no answer to
    it is due: a client that lost it would wait for its own timer.
    """
    transport = self.transport
    flights = _Flights(transport)

    def end_with_the_connection() -> None:
        if self.state != "connected":
            flights.end()

    transport._send = flights.send
    try:
        await _do_handshake(self)
    finally:
        transport._send = flights.original
        if self.encrypted and self._role == "server":
            self.on("statechange", end_with_the_connection)
        else:
            flights.end()


class _Flights:
    """Sends a datagram and repeats it until the next one."""

    def __init__(self, transport: RTCIceTransport) -> None:
        self.original = transport._send
        self._repeating: asyncio.Task[None] | None = None

    async def send(self, data: bytes) -> None:
        self.end()
        await self.original(data)
        self._repeating = asyncio.create_task(self._repeat(data))

    async def _repeat(self, data: bytes) -> None:
        for pause in DTLS_PAUSES:
            await asyncio.sleep(pause)
            try:
                await self.original(data)
            except ConnectionError:
                return  # the handshake itself is told

    def end(self) -> None:
        if self._repeating is not None:
            self._repeating.cancel()
            self._repeating = None
