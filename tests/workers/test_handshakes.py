"""Connecting while packets are lost: seconds of waiting, or no call, for people on bad networks."""

import asyncio
from typing import Any

import aioice.ice
import pytest
from aioice import Candidate, stun
from aiortc import RTCCertificate, RTCDtlsTransport
from pyee.asyncio import AsyncIOEventEmitter

from tests.clients import loopback_candidates
from workers import patches


class Peer(asyncio.DatagramProtocol):
    """The other side of ICE: keeps what it receives and answers nothing."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[stun.Message] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(stun.parse_message(data))


async def test_a_check_that_waits_is_repeated_when_the_other_side_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aioice alone leaves it to a timer that doubles up to 16 s."""
    patches.apply()
    monkeypatch.setattr(stun, "RETRY_RTO", 60)
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        Peer, local_addr=("127.0.0.1", 0)
    )
    ours = aioice.ice.Connection(ice_controlling=False)
    ours.remote_username, ours.remote_password = "them", "their password of 22 c"
    with loopback_candidates():
        await ours.gather_candidates()
    port = transport.get_extra_info("sockname")[1]
    await ours.add_remote_candidate(Candidate("1", 1, "udp", 1, "127.0.0.1", port, "host"))
    connecting = asyncio.create_task(ours.connect())
    async with asyncio.timeout(5):
        first = await peer.received.get()
        assert first.message_class is stun.Class.REQUEST
        for _ in range(3):
            check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            check.attributes["USERNAME"] = f"{ours.local_username}:them"
            check.attributes["PRIORITY"] = 1
            check.attributes["ICE-CONTROLLING"] = 1
            check.add_message_integrity(ours.local_password.encode())
            local = ours.local_candidates[0]
            transport.sendto(bytes(check), (local.host, local.port))
            answers = [await peer.received.get() for _ in range(2)]
            assert {answer.transaction_id for answer in answers} == {
                check.transaction_id,
                first.transaction_id,
            }
    await ours.close()
    await asyncio.gather(connecting, return_exceptions=True)
    transport.close()


class LossyIce(AsyncIOEventEmitter):
    """An ICE transport that loses each datagram once; only a second copy of it arrives."""

    state = "completed"

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role
        self.other = self
        self.sent: set[bytes] = set()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._send = self.send
        self._recv = self.recv

    async def send(self, data: bytes) -> None:
        if self.state == "closed":
            raise ConnectionError
        if data in self.sent:
            self.other.queue.put_nowait(data)
        self.sent.add(data)

    async def recv(self) -> bytes:
        data = await self.queue.get()
        if data is None:
            raise ConnectionError
        return data

    async def stop(self) -> None:
        self.state = "closed"
        self.queue.put_nowait(None)


def lossy_sides() -> tuple[list[LossyIce], list[RTCDtlsTransport]]:
    ice = [LossyIce("controlling"), LossyIce("controlled")]
    ice[0].other, ice[1].other = ice[1], ice[0]
    certificates = [RTCCertificate.generateCertificate() for _ in ice]
    return ice, [
        RTCDtlsTransport(transport, [certificate])  # type: ignore[arg-type]
        for transport, certificate in zip(ice, certificates, strict=True)
    ]


async def test_a_flight_of_the_dtls_handshake_that_is_lost_is_sent_again() -> None:
    """OpenSSL's own repetitions are new datagrams, so with them alone this would never end.

    The server's last flight is among them, though nothing answers it.
    """
    patches.apply()
    ice, sides = lossy_sides()
    server, client = sides
    tasks = [
        asyncio.create_task(client.start(server.getLocalParameters())),
        asyncio.create_task(server.start(client.getLocalParameters())),
    ]
    async with asyncio.timeout(10):
        while [side.state for side in sides] != ["connected"] * 2:
            await asyncio.sleep(0.01)
    assert ice[0]._send == ice[0].send
    for side in sides:
        await side.stop()
    for transport in ice:
        await transport.stop()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)


async def test_a_last_flight_is_not_repeated_after_the_end() -> None:
    patches.apply()
    before = asyncio.all_tasks()
    ice, (server, client) = lossy_sides()
    task = asyncio.create_task(client.start(server.getLocalParameters()))
    async with asyncio.timeout(10):
        await server.start(client.getLocalParameters())
    await asyncio.sleep(0)
    for side in (server, client):
        await side.stop()
    for transport in ice:
        await transport.stop()
    await asyncio.wait_for(task, 5)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_handshake_that_fails_leaves_no_task_behind() -> None:
    patches.apply()
    before = asyncio.all_tasks()
    ice, sides = lossy_sides()
    task = asyncio.create_task(sides[1].start(sides[0].getLocalParameters()))
    await asyncio.sleep(0.05)
    await ice[1].stop()
    await asyncio.wait_for(task, 5)
    assert sides[1].state == "failed"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
