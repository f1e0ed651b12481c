"""An ICE connection that has no sockets of its own but a share in the worker's UDP port.

aioice stays the ICE agent: this gives it candidates at the shared port, and a protocol object for
each local address that sends and receives there. Relayed candidates come from aioice as they are.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import aioice
import aioice.ice
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.utils import random_string

from workers.changes import run_on
from workers.udp_mux import Address, LocalSocket, Transaction, UDPMux, drop, selected_mux

logger = logging.getLogger(__name__)

USER_LENGTH = 16
"""Characters of a user name fragment; aioice's 4 are not unique among the calls of a worker."""
MAX_QUEUE = 512
"""Datagrams that wait for a connection that does not read; further ones are dropped."""
MEDIA_BYTES = 12
"""Of the smallest RTP packet (RFC 3550, 5.1), to which its authentication is added."""
CONSENT_INTERVAL = 5.0
"""Seconds between two checks, times 0.8 to 1.2 (RFC 7675, 5.1)."""
CONSENT_EXPIRY = 30.0
"""Seconds after the last answer until a client that gives none is gone (RFC 7675, 5.1)."""
HIGHEST_PREFERENCE = 65535
"""Local preference of the first of several addresses (RFC 8445, 5.1.2.1)."""


class SharedPortConnection(aioice.Connection):
    """aioice's connection at the port of `mux`."""

    def __init__(self, mux: UDPMux, *args: Any, **options: Any) -> None:
        # also where aiortc gives one: it repeats that of the first section of the offer for the
        # others, and a packet's user name must tell those apart, too
        options["local_username"] = random_string(USER_LENGTH)
        super().__init__(*args, **options)
        self._mux = mux
        self._loop = asyncio.get_running_loop()
        self.encrypting = threading.Lock()
        """Guards what encrypts: its session has one buffer for all packets."""
        self.sinks: dict[int, Callable[[bytes], None]] = {}
        """Who takes the RTP packets of a payload type, past the queue."""

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[Candidate]:
        """Host candidates at the shared port, those of a STUN server, and relayed ones."""
        async with asyncio.TaskGroup() as tasks:
            relayed = tasks.create_task(super().get_component_candidates(component, [], timeout))
            own: list[Candidate] = []
            if self._transport_policy is aioice.TransportPolicy.ALL:
                own = await self._own_candidates(component, timeout)
        return own + relayed.result()

    async def _own_candidates(self, component: int, timeout: float) -> list[Candidate]:
        protocols = [
            SharedPortProtocol(
                self, local, _host_candidate(component, local.address, local.port, n)
            )
            for n, local in enumerate(self._mux.sockets())
        ]
        self._protocols += protocols
        if self._mux.advertised:
            return [
                _host_candidate(component, host, self._mux.port, n)
                for n, host in enumerate(self._mux.advertised)
            ]
        candidates = [protocol.local_candidate for protocol in protocols]
        if self.stun_server is not None:
            candidates += await self._ask_server(protocols, self.stun_server, timeout)
        return candidates

    async def _ask_server(
        self, protocols: "list[SharedPortProtocol]", server: Address, timeout: float
    ) -> list[Candidate]:
        """What a STUN server says the IPv4 addresses are seen as."""
        asked = [
            asyncio.create_task(aioice.ice.server_reflexive_candidate(protocol, server))
            for protocol in protocols
            if ":" not in protocol.local_candidate.host
        ]
        if not asked:
            return []
        try:
            answered, _ = await asyncio.wait(asked, timeout=timeout)
        finally:
            for task in asked:
                task.cancel()
        return [task.result()[0] for task in answered if task.exception() is None]

    async def query_consent(self) -> None:
        """Close when the other side has not answered a check for `CONSENT_EXPIRY` seconds.

        aioice counts six checks instead, each of which takes half a second more when it is lost.
        """
        assert self.remote_password is not None
        key = self.remote_password.encode()
        loop = asyncio.get_running_loop()
        expiry = loop.time() + CONSENT_EXPIRY
        while (remaining := expiry - loop.time()) > 0:
            await asyncio.sleep(min(remaining, CONSENT_INTERVAL * random.uniform(0.8, 1.2)))
            for pair in list(self._nominated.values()):
                request = self.build_request(pair, nominate=False)
                try:
                    await pair.protocol.request(
                        request, pair.remote_addr, integrity_key=key, retransmissions=0
                    )
                    expiry = loop.time() + CONSENT_EXPIRY
                except stun.TransactionError:
                    pass  # lost, or the other side is gone
        logger.info("the client's consent has expired")
        self._query_consent_task = None  # `close` would cancel it
        await self.close()

    def send_now(self, data: bytes) -> None:
        """Send a datagram to the other side; it is lost where there is no way. On any thread."""
        if (pair := self._nominated.get(1)) is None:
            drop("not_sent")
        elif isinstance(protocol := pair.protocol, SharedPortProtocol):
            protocol.send(data, pair.remote_addr)
        else:  # relayed, by coroutines of the loop
            run_on(self._loop, lambda: pair.protocol.transport.sendto(data, pair.remote_addr))

    def data_received(self, data: bytes, component: int) -> None:
        # RTP and RTCP have 2 as their first two bits; of a datagram with RTCP the seven bits of the
        # payload type are from 64 to 95, which RTP leaves free (RFC 5761, 4)
        if (
            len(data) > MEDIA_BYTES
            and data[0] >> 6 == 2
            and (sink := self.sinks.get(data[1] & 0x7F))
        ):
            sink(data)
        elif self._queue.qsize() < MAX_QUEUE:
            self._queue.put_nowait((data, component))
        else:
            drop("queue_full")


class SharedPortProtocol(aioice.ice.StunProtocol):
    """What a connection sees of the shared port at one local address.

    Attributes:
        send: sends a datagram to an address; none after the end.
    """

    receiver: SharedPortConnection

    def __init__(
        self, connection: SharedPortConnection, local: LocalSocket, candidate: Candidate
    ) -> None:
        super().__init__(connection)
        self.local_candidate = candidate
        self.key = connection.local_password.encode()
        self.routes: set[Address] = set()
        self.send = local.send
        self._local = local
        self._user = connection.local_username.encode()
        local.add(self._user, self)
        self.connection_made(_SharedTransport(self, local, self._user))

    def stun_received(self, data: bytes, address: Address) -> None:
        self.datagram_received(data, address)

    def media_received(self, data: bytes) -> None:
        self.receiver.data_received(data, self.local_candidate.component)

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        transactions = self._local.transactions
        transactions[request.transaction_id] = Transaction(self, addr, integrity_key)
        try:
            return await super().request(request, addr, integrity_key, retransmissions)
        finally:
            transactions.pop(request.transaction_id, None)

    async def send_data(self, data: bytes, addr: Address) -> None:
        self.send(data, addr)


class _SharedTransport(asyncio.DatagramTransport):
    """A transport whose end leaves the socket to the others."""

    def __init__(self, protocol: SharedPortProtocol, local: LocalSocket, user: bytes) -> None:
        super().__init__()
        self._protocol = protocol
        self._local = local
        self._user = user
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._protocol.send(data, addr)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.send = _send_nothing
            self._local.remove(self._user, self._protocol)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing


def _send_nothing(data: bytes, address: Address) -> None:
    """The connection has ended."""


def create_connection(*args: Any, **options: Any) -> aioice.Connection:
    """In place of aioice's class in aiortc: a worker's own peer connections share its port.

    Those of anything else in this process, such as a handler that is a WebRTC client itself, have
    sockets of their own.
    """
    mux = selected_mux()
    if mux is None:
        return aioice.Connection(*args, **options)
    return SharedPortConnection(mux, *args, **options)


def _host_candidate(component: int, host: str, port: int, position: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host", HIGHEST_PREFERENCE - position),
        host=host,
        port=port,
        type="host",
    )
