"""The shared port: a packet that reaches the wrong call, or a right one that does not, is a lost
call, or another caller's."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import uvloop
from aioice import stun
from prometheus_client import REGISTRY

from rayrtc.settings import Settings
from workers.ice_connection import MAX_QUEUE, SharedPortConnection
from workers.network import open_port
from workers.udp_mux import MAX_ROUTES, PortError, UDPMux

LOCAL = "127.0.0.1"
RTP = b"\x80\x6f" + bytes(30)
DTLS = b"\x16\xfe\xfd" + bytes(30)


@pytest.fixture
async def mux() -> AsyncIterator[UDPMux]:
    mux = UDPMux(lambda: (LOCAL,))
    yield mux
    mux.close()


class Peer:
    """A client's socket, which says what it likes to a connection."""

    def __init__(self, mux: UDPMux) -> None:
        self.port = mux.port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOCAL, 0))
        self.socket.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, (LOCAL, self.port))

    def ask(self, connection: SharedPortConnection, password: str | None = None) -> stun.Message:
        """Send a binding request, signed as `connection` wants it or with another password."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{connection.local_username}:{connection.remote_username}"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLING"] = 1
        request.add_message_integrity((password or connection.local_password).encode())
        self.send(bytes(request))
        return request

    async def answers(self, seconds: float = 0.1) -> list[bytes]:
        """What comes back within this time."""
        await asyncio.sleep(seconds)
        answers = []
        while True:
            try:
                answers.append(self.socket.recv(4096))
            except BlockingIOError:
                return answers


async def connection(mux: UDPMux, **options: object) -> SharedPortConnection:
    made = SharedPortConnection(mux, ice_controlling=False, **options)
    made.remote_username, made.remote_password = "remote", "password-of-the-remote-end"
    await made.gather_candidates()
    return made


def queued(connection: SharedPortConnection) -> list[bytes]:
    return [item[0] for item in connection._queue._queue if item]  # type: ignore[attr-defined]


def dropped(reason: str) -> float:
    name = "rayrtc_worker_udp_packets_dropped_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


async def until_dropped(reason: str, count: float) -> None:
    async with asyncio.timeout(5):
        while dropped(reason) < count:
            await asyncio.sleep(0.01)


async def test_media_follows_the_address_that_a_signed_request_came_from(mux: UDPMux) -> None:
    calls = [await connection(mux) for _ in range(3)]
    peers = [Peer(mux) for _ in calls]
    for call, peer in zip(calls, peers, strict=True):
        peer.ask(call)
        assert len(await peer.answers()) == 1
        peer.send(RTP + call.local_username.encode())
        peer.send(DTLS)
    await asyncio.sleep(0.1)
    for call in calls:
        assert queued(call) == [RTP + call.local_username.encode(), DTLS]
        assert [candidate.port for candidate in call.local_candidates] == [mux.port]
        await call.close()


async def test_user_names_differ_even_where_one_is_given(mux: UDPMux) -> None:
    """aiortc gives all sections of an offer the same one."""
    names = {SharedPortConnection(mux, False, local_username="same").local_username for _ in "ab"}
    assert len(names) == 2
    assert "same" not in names


def test_the_loop_of_rays_actors_serves_it_as_well() -> None:
    """Ray takes uvloop where it is installed."""

    async def call() -> None:
        mux = UDPMux(lambda: (LOCAL,))
        await test_media_follows_the_address_that_a_signed_request_came_from(mux)
        mux.close()

    uvloop.run(call())


@pytest.mark.parametrize("datagram", [RTP, DTLS])
async def test_media_from_a_stranger_reaches_nobody(mux: UDPMux, datagram: bytes) -> None:
    call, peer, stranger = await connection(mux), Peer(mux), Peer(mux)
    peer.ask(call)
    await peer.answers()
    before = dropped("unknown_address")
    stranger.send(datagram)
    await until_dropped("unknown_address", before + 1)
    assert queued(call) == []
    await call.close()


async def test_a_request_with_a_stolen_name_is_not_answered(mux: UDPMux) -> None:
    """Neither routed nor answered: with a forged source the answer would hit somebody else."""
    call, stranger = await connection(mux), Peer(mux)
    before = dropped("bad_integrity")
    stranger.ask(call, password="x" * 22)
    await until_dropped("bad_integrity", before + 1)
    stranger.send(RTP)
    assert await stranger.answers() == []
    assert queued(call) == []
    assert call.remote_candidates == []
    await call.close()


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "malformed"),
        (b"\x00", "malformed"),
        (b"\x00\x01\x00\x00", "malformed"),
        (b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12), "malformed"),  # cut off
        (b"\x00\x01\x00\x00" + bytes(16), "malformed"),  # no magic cookie
        (b"\x10" + bytes(40), "malformed"),  # ZRTP
        (b"\x40" + bytes(40), "malformed"),  # TURN channel data
        (b"\xff" + bytes(40), "malformed"),
        (b"\x80" + bytes(5000), "malformed"),
        (b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), "unknown_user"),
        (b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\xff\xff", "unknown_user"),
        (b"\x00\x11\x00\x00\x21\x12\xa4\x42" + bytes(12), "unknown_address"),
        (b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), "unknown_transaction"),
        (b"\x01\x11\x00\x00\x21\x12\xa4\x42" + bytes(12), "unknown_transaction"),
    ],
)
async def test_garbage_is_counted_and_not_answered(
    mux: UDPMux, datagram: bytes, reason: str
) -> None:
    call, stranger = await connection(mux), Peer(mux)
    before = dropped(reason)
    stranger.send(datagram)
    await until_dropped(reason, before + 1)
    assert await stranger.answers(0.05) == []
    assert queued(call) == []
    await call.close()


async def test_a_signed_request_that_makes_no_sense_harms_nobody(mux: UDPMux) -> None:
    """aioice raises at a PRIORITY of three bytes; the port must live on for the other calls."""
    call, other, peer, client = await connection(mux), await connection(mux), Peer(mux), Peer(mux)
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{call.local_username}:{call.remote_username}"
    text = bytes(request) + b"\x00\x24\x00\x03abc\x00"
    text = stun.set_body_length(text, len(text) - stun.HEADER_LENGTH + stun.INTEGRITY_LENGTH)
    digest = stun.message_integrity(text, call.local_password.encode())
    before = dropped("malformed")
    peer.send(text + b"\x00\x08\x00\x14" + digest)
    await until_dropped("malformed", before + 1)
    client.ask(other)
    assert len(await client.answers()) == 1
    await call.close()
    await other.close()


async def test_a_forged_request_takes_no_address_from_another_call(mux: UDPMux) -> None:
    """A caller who forges another's address as the source of a signed request."""
    victim, attacker, peer = await connection(mux), await connection(mux), Peer(mux)
    peer.ask(victim)
    peer.ask(attacker)  # from the victim's address
    await peer.answers()
    peer.send(RTP)
    await asyncio.sleep(0.05)
    assert queued(victim) == [RTP]
    assert queued(attacker) == []
    await victim.close()
    await attacker.close()


async def test_an_address_that_a_nat_gives_to_the_next_client_moves_with_it(mux: UDPMux) -> None:
    """The next client proves that it is there: it answers the check that is sent to the address."""
    old, new, peer = await connection(mux), await connection(mux), Peer(mux)
    peer.ask(old)
    await peer.answers()
    connecting = asyncio.create_task(new.connect())
    await asyncio.sleep(0)
    peer.ask(new)
    async with asyncio.timeout(5):
        while not (checks := [d for d in await peer.answers(0.05) if d[:2] == b"\x00\x01"]):
            pass
    check = stun.parse_message(checks[0])
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, check.transaction_id)
    answer.attributes["XOR-MAPPED-ADDRESS"] = (LOCAL, mux.port)
    answer.add_message_integrity(b"somebody else's password")
    peer.send(bytes(answer))
    peer.send(RTP)
    await asyncio.sleep(0.05)
    assert (queued(old), queued(new)) == ([RTP], [])
    answer.add_message_integrity(str(new.remote_password).encode())
    peer.send(bytes(answer))
    peer.send(DTLS)
    await asyncio.sleep(0.05)
    assert (queued(old), queued(new)) == ([RTP], [DTLS])
    await old.close()
    peer.send(DTLS)
    await asyncio.sleep(0.05)
    assert queued(new) == [DTLS, DTLS]
    connecting.cancel()
    await new.close()


async def test_a_closed_call_leaves_the_port_to_the_others_and_nothing_behind(mux: UDPMux) -> None:
    (local,) = mux.sockets()
    closed, open_, peers = await connection(mux), await connection(mux), [Peer(mux), Peer(mux)]
    for call, peer in zip((closed, open_), peers, strict=True):
        peer.ask(call)
        await peer.answers(0.05)
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    asking = asyncio.create_task(closed._protocols[0].request(request, (LOCAL, 9), b"key"))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await closed.close()
    before = dropped("unknown_user"), dropped("unknown_address")
    peers[0].ask(closed)
    peers[0].send(RTP)
    peers[1].send(RTP)
    await until_dropped("unknown_user", before[0] + 1)
    await until_dropped("unknown_address", before[1] + 1)
    assert queued(open_) == [RTP]
    await open_.close()
    assert [local.users, local.routes, local.transactions] == [{}, {}, {}]
    asking.cancel()


async def test_a_call_claims_no_more_than_its_share_of_addresses(mux: UDPMux) -> None:
    """Else one recorded request, sent from every port, would fill the memory."""
    call, peers = await connection(mux), [Peer(mux) for _ in range(MAX_ROUTES + 3)]
    before = dropped("too_many_addresses")
    for peer in peers:
        peer.ask(call)
    await until_dropped("too_many_addresses", before + 3)
    (local,) = mux.sockets()
    assert len(local.routes) == MAX_ROUTES
    peers[0].send(RTP)
    await asyncio.sleep(0.05)
    assert queued(call) == [RTP]
    await call.close()
    assert not local.routes
    for peer in peers:
        peer.socket.close()


async def test_what_a_call_does_not_read_is_bounded(mux: UDPMux) -> None:
    call, peer = await connection(mux), Peer(mux)
    peer.ask(call)
    await peer.answers(0.05)
    before = dropped("queue_full")
    for _ in range(MAX_QUEUE + 10):
        peer.send(RTP)
        await asyncio.sleep(0)
    await until_dropped("queue_full", before + 10)
    assert len(queued(call)) == MAX_QUEUE
    await call.close()


async def test_a_second_worker_takes_the_next_port_of_the_range() -> None:
    first = UDPMux(lambda: (LOCAL,))
    ports = range(first.port, first.port + 8)
    second = UDPMux(lambda: (LOCAL, "127.0.0.2"), ports)
    try:
        assert second.port in ports[1:]
        assert {local.port for local in second.sockets()} == {second.port}
    finally:
        first.close()
        second.close()


async def test_a_worker_does_not_start_without_a_free_port() -> None:
    taken = UDPMux(lambda: ("127.0.0.2",))
    with pytest.raises(PortError, match=rf"no UDP port of {taken.port}-{taken.port} is free"):
        UDPMux(lambda: (LOCAL, "127.0.0.2"), range(taken.port, taken.port + 1))
    free = UDPMux(lambda: (LOCAL,), range(taken.port, taken.port + 1))  # nothing was kept
    free.close()
    taken.close()
    with pytest.raises(PortError, match=r"203\.0\.113\.1"):
        await open_port(Settings(ice_addresses="203.0.113.1"))


async def test_an_address_that_comes_or_goes_is_followed() -> None:
    """A laptop that changes its network needs no restart."""
    addresses = [LOCAL]
    mux = UDPMux(lambda: addresses)
    addresses[:] = ["127.0.0.3"]
    call = await connection(mux)
    assert [(c.host, c.port) for c in call.local_candidates] == [("127.0.0.3", mux.port)]
    addresses[:] = [LOCAL]
    assert [local.address for local in mux.sockets()] == [LOCAL]
    assert len(mux._sockets) == 2
    await call.close()
    mux.sockets()
    assert len(mux._sockets) == 1
    mux.close()


async def test_the_candidates_are_exactly_the_advertised_ones() -> None:
    mux = UDPMux(lambda: (LOCAL, "127.0.0.2"), advertised=("203.0.113.9", "2001:db8::9"))
    call = await connection(mux, stun_server=("127.0.0.1", 9))
    begin = time.monotonic()
    offered = [(c.type, c.host, c.port) for c in call.local_candidates]
    assert offered == [("host", "203.0.113.9", mux.port), ("host", "2001:db8::9", mux.port)]
    assert time.monotonic() - begin < 1
    priorities = [c.priority for c in call.local_candidates]
    assert priorities == sorted(set(priorities), reverse=True)
    await call.close()
    mux.close()


async def test_a_stun_server_is_asked_from_the_shared_port(mux: UDPMux) -> None:
    """The address it sees is of use only if it is that of the port where media is."""
    server = Peer(mux)
    gathering = asyncio.create_task(connection(mux, stun_server=server.address))
    async with asyncio.timeout(5):
        while not (asked := await server.answers(0.02)):
            pass
    request = stun.parse_message(asked[0])
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
    answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.9", 4567)
    before = dropped("unknown_transaction")
    Peer(mux).send(bytes(answer))  # whoever guesses the transaction is still at another address
    await until_dropped("unknown_transaction", before + 1)
    server.send(bytes(answer))
    call = await gathering
    offered = [(c.type, c.host, c.port) for c in call.local_candidates]
    assert offered == [("host", LOCAL, mux.port), ("srflx", "203.0.113.9", 4567)]
    before = dropped("unknown_address")
    server.send(RTP)  # it is no client
    await until_dropped("unknown_address", before + 1)
    await call.close()


async def test_ipv6_shares_the_port_as_well() -> None:
    mux = UDPMux(lambda: (LOCAL, "::1"))
    call = await connection(mux)
    assert {(c.host, c.port) for c in call.local_candidates} == {
        (LOCAL, mux.port),
        ("::1", mux.port),
    }
    peer = Peer(mux)
    peer.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    peer.socket.setblocking(False)
    peer.send = lambda data: peer.socket.sendto(data, ("::1", mux.port))  # type: ignore[method-assign,assignment,return-value]
    peer.ask(call)
    assert len(await peer.answers()) == 1
    peer.send(RTP)
    await asyncio.sleep(0.05)
    assert queued(call) == [RTP]
    await call.close()
    mux.close()
