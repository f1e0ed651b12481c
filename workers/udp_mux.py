"""The one UDP port of a worker process, which all of its WebRTC connections share.

A packet finds its connection by what only that connection's client can know or be: a STUN request
by the user name in it and an integrity made with the password of the answer, a STUN response by the
transaction it answers, and all else by an address that one of these two has come from. What fits
nowhere is dropped without an answer, and counted. The module knows the packets' first bytes and
addresses; what ICE does with a STUN message is aioice's (`ice_connection.py`).
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from workers.stun_header import ERROR, MEDIA, REQUEST, RESPONSE, is_media, parse_header

logger = logging.getLogger(__name__)

BUFFER_BYTES = 4 << 20
"""Asked for as the receive and the send buffer of a socket. The system gives less when its limits
(`net.core.rmem_max`, `wmem_max`) say so."""
DATAGRAM_BYTES = 4096
"""More than any datagram of WebRTC has; one that fills it is dropped."""
BATCH = 128
"""Datagrams that are read in one turn of the event loop: so many are in the buffer only after a
pause of the loop or in a flood, and to leave them there longer would lose those of calls."""
MAX_ROUTES = 64
"""Addresses of one connection that requests alone may claim: as many as it may have candidates.
Who sends a client's recorded request again from other addresses gets no further than this."""
EPHEMERAL_TRIES = 32
"""How often another free port is asked for when one is taken on another of the addresses."""

Address = tuple[str, int]

dropped = Counter(
    "rayrtc_worker_udp_packets_dropped_total",
    "Packets at the worker's UDP port that were not taken or not sent, by reason.",
    ["reason"],
)
_dropped = {
    reason: dropped.labels(reason)
    for reason in (
        "bad_integrity",
        "malformed",
        "not_sent",
        "queue_full",
        "too_many_addresses",
        "unknown_address",
        "unknown_transaction",
        "unknown_user",
    )
}


def drop(reason: str) -> None:
    """Count a packet that goes no further."""
    _dropped[reason].inc()


class PortError(RuntimeError):
    """No UDP port can be had; the one argument says why, as the operator should read it."""


class Endpoint(Protocol):
    """One connection at one local address."""

    key: bytes
    """With which its client signs requests."""
    routes: set[Address]
    """Where its client's packets come from."""

    def stun_received(self, data: bytes, address: Address) -> None:
        """Take a STUN message from the client of this connection."""

    def media_received(self, data: bytes) -> None:
        """Take a datagram that is not STUN."""


class Transaction(NamedTuple):
    """A STUN request that waits for its response."""

    endpoint: Endpoint
    address: Address
    """Where it was sent."""
    key: bytes | None
    """With which the response is signed; None for a STUN server's, which is not."""


class LocalSocket:
    """The port at one local address.

    Attributes:
        address: the IP address.
        port: the port, which the worker's other addresses share.
        users: connections by their user name fragment.
        transactions: by transaction id.
        routes: connections by the address of their client.
    """

    def __init__(self, address: str, port: int) -> None:
        self.users: dict[bytes, Endpoint] = {}
        self.transactions: dict[bytes, Transaction] = {}
        self.routes: dict[Address, Endpoint] = {}
        self._ipv6 = ip_address(address).version == 6
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if self._ipv6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            self._socket.bind((address, port))
        except BaseException:
            self._socket.close()
            raise
        self.address = address
        self.port: int = self._socket.getsockname()[1]
        self._loop.add_reader(self._socket, self._readable)

    def add(self, user: bytes, endpoint: Endpoint) -> None:
        """Take packets for a connection from now on."""
        self.users[user] = endpoint

    def remove(self, user: bytes, endpoint: Endpoint) -> None:
        """Take none any more."""
        if self.users.get(user) is endpoint:
            del self.users[user]
        waiting = [t for t, sent in self.transactions.items() if sent.endpoint is endpoint]
        for transaction in waiting:
            del self.transactions[transaction]
        for address in endpoint.routes:
            del self.routes[address]
        endpoint.routes.clear()

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram; one that the system does not take at once is lost, as on any link."""
        try:
            self._socket.sendto(data, address)
        except OSError:  # its buffer is full, the network is down, there is no way to the address
            drop("not_sent")

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        receive = self._socket.recvfrom
        for _ in range(BATCH):
            try:
                data, address = receive(DATAGRAM_BYTES)
            except OSError:  # nothing more to read
                return
            if self._ipv6:
                address = address[:2]
            self._received(data, address)

    def _received(self, data: bytes, address: Address) -> None:
        if not data or len(data) >= DATAGRAM_BYTES:
            drop("malformed")
        elif data[0] >= MEDIA:
            if (endpoint := self.routes.get(address)) is None:
                drop("unknown_address" if is_media(data[0]) else "malformed")
            else:
                endpoint.media_received(data)
        else:
            self._stun_received(data, address)

    def _stun_received(self, data: bytes, address: Address) -> None:
        header = parse_header(data)
        if header is None:
            drop("malformed")
            return
        if header.type == REQUEST:
            endpoint = self.users.get(header.user)
            if endpoint is None:
                drop("unknown_user")
                return
            # not answered with an error: the address may be forged
            if not header.is_authentic(endpoint.key):
                drop("bad_integrity")
                return
            if not self._claim(address, endpoint):
                drop("too_many_addresses")
                return
        elif header.type in (RESPONSE, ERROR):
            transaction = self.transactions.get(header.transaction_id)
            if transaction is None or transaction.address != address:
                drop("unknown_transaction")
                return
            endpoint = transaction.endpoint
            if transaction.key is not None:
                if not header.is_authentic(transaction.key):
                    drop("bad_integrity")
                    return
                self._move(address, endpoint)
        else:
            # an indication asks for nothing and proves nothing
            if address not in self.routes:
                drop("unknown_address")
            return
        try:
            endpoint.stun_received(data, address)
        except Exception:
            # signed by the client, so by nobody else's: its own connection's loss alone
            logger.debug("STUN message not understood", exc_info=True)
            drop("malformed")

    def _claim(self, address: Address, endpoint: Endpoint) -> bool:
        """A signed request came from an address: its packets are the connection's if nobody else's.

        The source of a request can be forged, so it takes no address from another connection. The
        response to the check that follows it does.
        """
        if address not in self.routes:
            if len(endpoint.routes) >= MAX_ROUTES:
                return False
            self.routes[address] = endpoint
            endpoint.routes.add(address)
        return True

    def _move(self, address: Address, endpoint: Endpoint) -> None:
        """The client answered from an address: it is there, and nobody else can be."""
        owner = self.routes.get(address)
        if owner is not endpoint:
            if owner is not None:
                owner.routes.discard(address)
            self.routes[address] = endpoint
            endpoint.routes.add(address)


class UDPMux:
    """One port, the same at each local address.

    Args:
        addresses: gives the local IP addresses, each time it is asked.
        ports: the first that is free at all addresses is taken; 0 is any.
        advertised: IP addresses that clients are told in place of the local ones.

    Raises:
        PortError: there is none.
    """

    def __init__(
        self,
        addresses: Callable[[], Sequence[str]],
        ports: range = range(1),
        advertised: Sequence[str] = (),
    ) -> None:
        self.advertised = tuple(advertised)
        self._addresses = addresses
        self._sockets: dict[str, LocalSocket] = {}
        self.port = self._bind(ports)

    def sockets(self) -> list[LocalSocket]:
        """One for each local address of now; a new address is added, an unused one removed."""
        addresses = self._addresses()
        for address in addresses:
            if address not in self._sockets:
                try:
                    self._sockets[address] = LocalSocket(address, self.port)
                except OSError as error:
                    logger.debug("no UDP port %d at %s: %s", self.port, address, error.strerror)
        for address in self._sockets.keys() - set(addresses):
            if not self._sockets[address].users:
                self._sockets.pop(address).close()
        return [self._sockets[address] for address in addresses if address in self._sockets]

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Peer connections that are made inside use this port."""
        token = _selected.set(self)
        try:
            yield
        finally:
            _selected.reset(token)

    def close(self) -> None:
        """Close the port. What connections still send is lost."""
        for local in self._sockets.values():
            local.close()
        self._sockets.clear()

    def _bind(self, ports: range) -> int:
        addresses = self._addresses()
        if not addresses:
            raise PortError("there is no local address for media")
        asked = [0] * EPHEMERAL_TRIES if ports == range(1) else ports
        for port in asked:
            if (taken := self._bind_all(addresses, port)) is not None:
                return taken
        first, last = asked[0], asked[-1]
        raise PortError(
            f"no UDP port of {first}-{last} is free at {', '.join(addresses)}: RAYRTC_UDP_PORTS "
            "needs one for each worker of this machine, also for those that are being replaced"
            if first
            else f"no UDP port is free at all of {', '.join(addresses)}"
        )

    def _bind_all(self, addresses: Sequence[str], port: int) -> int | None:
        """The port, once it is bound at all addresses that there are; None when it is in use."""
        problem = ""
        for address in addresses:
            try:
                local = self._sockets[address] = LocalSocket(address, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    self.close()
                    return None
                # an address that went, an IPv6 one that is not usable yet, or a privileged port
                problem = f"no UDP port {port} at {address}: {error.strerror}"
                logger.warning(problem)
            else:
                port = local.port
        if not self._sockets:
            raise PortError(problem)
        return port


_selected: ContextVar[UDPMux | None] = ContextVar("udp_mux", default=None)


def selected_mux() -> UDPMux | None:
    """The one whose `selected` is entered."""
    return _selected.get()
