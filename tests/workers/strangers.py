"""Forged packets at the UDP port of a worker with calls, and what they changed.

`python -m tests.workers.strangers 64 100000`: calls, packets. The worker's connections run in this
process, their clients in another one. A client sends and hears ten packets a second, so that many
of them fit on a small machine.
"""

import asyncio
import fractions
import json
import os
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
from aioice import stun
from aiortc import MediaStreamTrack
from prometheus_client import REGISTRY

from tests.clients import FRAME, RATE, AiortcClient
from tests.workers.host import AsyncEcho, Host
from workers.server import WorkerServer

SECRET = "0123456789abcdef"
SOCKETS = 8
BATCH = 50
"""Packets between two turns of the event loop: fewer than the smallest receive buffer holds."""
INTERVAL = 0.1
"""Seconds between two packets of a client."""
HEARD = 1.0
"""Seconds of calls before and after the packets."""
DROPPED = "rayrtc_worker_udp_packets_dropped_total"


class SparseTone(MediaStreamTrack):
    """20 ms of a tone every `INTERVAL`, encoded once."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        encoder = av.CodecContext.create("libopus", "w")
        encoder.sample_rate, encoder.format, encoder.layout = RATE, "s16", "mono"
        wave = np.sin(2 * np.pi * 440 * np.arange(FRAME) / RATE) * 12000
        frame = av.AudioFrame.from_ndarray(wave.astype(np.int16).reshape(1, -1), layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        encoded = [*encoder.encode(frame), *encoder.encode(None)]
        self._payload = bytes(encoded[0])
        self._begin = time.monotonic()
        self._count = 0

    async def recv(self) -> av.Packet:  # type: ignore[override]
        await asyncio.sleep(max(0.0, self._begin + self._count * INTERVAL - time.monotonic()))
        packet = av.Packet(self._payload)
        packet.pts = round(self._count * INTERVAL * RATE)
        packet.time_base = fractions.Fraction(1, RATE)
        self._count += 1
        return packet


async def clients(url: str, count: int) -> None:
    """Connect `count` clients, say so, and report on each when a line comes on standard input."""
    loop = asyncio.get_running_loop()
    headers = {"Authorization": f"Bearer {SECRET}"}
    called = []
    async with aiohttp.ClientSession(url, headers=headers) as session:
        for number in range(1, count + 1):
            client = AiortcClient("", webrtc_id=f"call-{number}", data_channel=False)
            client.tone = SparseTone()  # type: ignore[assignment]
            body = await client.create_offer()
            offer = {"connection_id": client.webrtc_id, "session": number, "stream": "test"}
            async with session.post("/v1/offer", json={**offer, "sdp": body["sdp"]}) as response:
                answer = await response.json()
                assert response.status == 200, answer
            await client.accept(answer)
            called.append(client)
    print("connected", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    begin = [len(client.samples) for client in called]
    await loop.run_in_executor(None, sys.stdin.readline)
    for client, before in zip(called, begin, strict=True):
        await client.hear(0.04)
        heard = len(client.samples) - before
        lost = await client.packets_lost()
        print(json.dumps([client.pc.connectionState, heard, lost]), flush=True)
    for client in called:
        await client.close()


@dataclass
class Known:
    """What a stranger may have learned of a call: all but its passwords."""

    user: str
    remote_user: str
    ssrc: int
    payload_type: int


@dataclass
class Report:
    """What came of it."""

    ports: set[int]
    """In the candidates of all answers."""
    sent: int
    dropped: Counter[str]
    answered: int
    """Packets that came back to the strangers."""
    same_pairs: bool
    """Whether each call still uses the pair of addresses that it used before."""
    same_routes: bool
    alive: int
    """Calls that are connected at both ends."""
    least_heard: int
    """Frames of audio that came to the client with the fewest, during and after the packets."""
    lost: int
    """Packets of audio that RTP's sequence numbers show to be missing, at either end."""
    seconds: float


def random_request(known: Known) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{os.urandom(8).hex()}:{known.remote_user}"
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(os.urandom(16))
    return bytes(request)


def stolen_name(known: Known) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{known.user}:{known.remote_user}"
    request.attributes["PRIORITY"] = 2**31 - 1
    request.attributes["ICE-CONTROLLING"] = 2**64 - 1
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(os.urandom(16))
    return bytes(request)


def unsigned_request(known: Known) -> bytes:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{known.user}:{known.remote_user}"
    return bytes(request)


def response(known: Known) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
    message.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.9", 9)
    message.add_message_integrity(os.urandom(16))
    return bytes(message)


def error_response(known: Known) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.ERROR)
    message.attributes["ERROR-CODE"] = (random.choice((400, 401, 403, 487)), "Forged")
    message.add_fingerprint()
    return bytes(message)


def rtp(known: Known) -> bytes:
    sequence, stamp = random.getrandbits(16), random.getrandbits(32)
    head = struct.pack("!BBHII", 0x80, known.payload_type, sequence, stamp, known.ssrc)
    return head + os.urandom(60)


def rtcp_bye(known: Known) -> bytes:
    return struct.pack("!BBHI", 0x81, 203, 1, known.ssrc) + os.urandom(14)


def dtls_alert(known: Known) -> bytes:
    return b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00"


def dtls_hello(known: Known) -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + b"\x00\x40\x01" + os.urandom(63)


def cut_off(known: Known) -> bytes:
    whole = stolen_name(known)
    return whole[: random.randrange(len(whole))]


def garbage(known: Known) -> bytes:
    return os.urandom(random.choice((1, 2, 19, 20, 21, 200, 1400)))


FORGERIES: tuple[Callable[[Known], bytes], ...] = (
    random_request,
    stolen_name,
    unsigned_request,
    response,
    error_response,
    rtp,
    rtcp_bye,
    dtls_alert,
    dtls_hello,
    cut_off,
    garbage,
)


async def attack(calls: int, packets: int) -> Report:
    """Connect clients, forge packets, and look at the calls again."""
    host = Host(AsyncEcho(), slots=calls)
    server = WorkerServer(host.connections, SECRET, lambda: b"")
    url = f"http://127.0.0.1:{await server.start('127.0.0.1')}"
    command = [sys.executable, "-m", "tests.workers.strangers", str(calls), url]
    root = Path(__file__).parents[2]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=root, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    try:
        async with asyncio.timeout(60 + calls):
            assert await process.stdout.readline() == b"connected\n"
        known = [_known(connection) for connection in host.connections._open]
        answers = [await connection.answer() for connection in host.connections._open]
        pairs, routes = _pairs(host), _routes(host)
        await asyncio.sleep(HEARD)
        process.stdin.write(b"begin\n")
        before = _dropped()
        begin = time.monotonic()
        for stranger in strangers:
            stranger.setblocking(False)
            stranger.bind(("127.0.0.1", 0))
        for number in range(packets):
            forged = FORGERIES[number % len(FORGERIES)](random.choice(known))
            strangers[number % SOCKETS].sendto(forged, ("127.0.0.1", host.udp_mux.port))
            if number % BATCH == 0:
                await asyncio.sleep(0)
        seconds = time.monotonic() - begin
        await asyncio.sleep(HEARD)
        lost = sum([await _lost(connection) for connection in [*host.connections._open]])
        same_pairs, same_routes = _pairs(host) == pairs, _routes(host) == routes
        process.stdin.write(b"end\n")
        reports = []
        async with asyncio.timeout(60):
            for _ in range(calls):
                reports.append(json.loads(await process.stdout.readline()))
        return Report(
            ports={int(port) for sdp in answers for port in _ports(sdp)},
            sent=packets,
            dropped=_dropped() - before,
            answered=sum(map(_received, strangers)),
            same_pairs=same_pairs,
            same_routes=same_routes,
            alive=sum(state == "connected" for state, _, _ in reports),
            least_heard=min(heard for _, heard, _ in reports),
            lost=lost + sum(lost for _, _, lost in reports),
            seconds=seconds,
        )
    finally:
        for stranger in strangers:
            stranger.close()
        if process.returncode is None:
            process.stdin.close()
            await process.wait()
        await server.stop()
        await host.close()


def _known(connection: Any) -> Known:
    sdp = connection._transport._offer.sdp
    remote_user = re.search(r"a=ice-ufrag:(\S+)", sdp)[1]  # type: ignore[index]
    ssrc = re.search(r"a=ssrc:(\d+)", sdp)[1]  # type: ignore[index]
    payload_type = re.search(r"a=rtpmap:(\d+) opus", sdp)[1]  # type: ignore[index]
    return Known(_ice(connection).local_username, remote_user, int(ssrc), int(payload_type))


def _ice(connection: Any) -> Any:
    return _peer(connection).getTransceivers()[0].receiver.transport.transport._connection


def _peer(connection: Any) -> Any:
    return connection._transport._peer._connection


def _pairs(host: Host) -> dict[str, Any]:
    """By connection: its selected pair, the same object as long as it is selected."""
    return {c.id: _ice(c)._nominated[1] for c in host.connections._open}


def _routes(host: Host) -> list[dict[Any, Any]]:
    return [dict(local.routes) for local in host.udp_mux.sockets()]


async def _lost(connection: Any) -> int:
    report = await _peer(connection).getStats()
    return sum(stats.packetsLost for stats in report.values() if stats.type == "inbound-rtp")


def _ports(sdp: str) -> list[str]:
    return re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", sdp)


def _dropped() -> Counter[str]:
    samples = [s for f in REGISTRY.collect() for s in f.samples if s.name == DROPPED]
    return Counter({sample.labels["reason"]: int(sample.value) for sample in samples})


def _received(stranger: socket.socket) -> int:
    count = 0
    while True:
        try:
            stranger.recv(4096)
        except BlockingIOError:
            return count
        count += 1


if __name__ == "__main__":
    if sys.argv[2].startswith("http"):
        asyncio.run(clients(sys.argv[2], int(sys.argv[1])))
    else:
        import uvloop

        print(uvloop.run(attack(int(sys.argv[1]), int(sys.argv[2]))))
