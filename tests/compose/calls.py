"""Calls from outside the containers, as clients make them; each step of the check with calls."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import numpy as np
from aioice import stun, turn
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection

from tests.clients import AiortcClient
from tests.compose.project import Project
from tests.e2e.spectrum import peak
from tests.e2e.sse import Reader
from tests.socket_client import SocketClient

TONE = 440.0
SLOTS = 8
"""Of a worker, unless set otherwise."""
DRAIN_TIMEOUT = 30
"""Seconds that the compose file gives running calls."""
STOP_TIME = 15
"""Seconds beyond those for the end of a node."""


def client_of(project: Project) -> AiortcClient:
    return AiortcClient(project.url, TONE, loopback=False)


def tone_of(client: AiortcClient) -> float:
    """Frequency that the client heard in the last two seconds; AssertionError if it heard less."""
    heard = np.concatenate(client.samples or [np.zeros(0)])[-2 * client.rate :]
    assert len(heard) == 2 * client.rate, (
        f"only {len(heard) / client.rate:.1f} s of audio came back"
    )
    frequency = peak(heard, client.rate)
    assert abs(frequency - TONE) < 5, f"{frequency} Hz came back"
    return frequency


async def through_the_port(project: Project) -> str:
    """Audio there and back, an input, its outputs by an event stream through the proxy."""
    client = client_of(project)
    await client.connect()
    try:
        reader = Reader(project.url + "/updates", client.webrtc_id)
        await asyncio.sleep(4)
        frequency = tone_of(client)
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                project.url + "/input_hook", json={"webrtc_id": client.webrtc_id, "volume": 0.5}
            ) as response,
        ):
            assert response.status == 200, await response.text()
        deadline = time.monotonic() + 5
        while not any(json.loads(event.data)["volume"] == 0.5 for event in reader.outputs()):
            assert time.monotonic() < deadline, f"no output with the input: {reader.events}"
            await asyncio.sleep(0.1)
        candidates = re.findall(r"a=candidate:\S+ 1 \w+ \d+ (\S+)", client.pc.remoteDescription.sdp)
    finally:
        await client.close()
    await reader.wait_for(1, "end")
    media = ", ".join(sorted(set(candidates)))
    return f"{frequency:.1f} Hz of {TONE:.1f} Hz came back; media with {media}"


async def to_own_image(project: Project) -> str:
    """Its handler answers, with what a package says that is in that image alone."""
    client = client_of(project)
    await client.connect()
    try:
        reader = Reader(project.url + "/updates", client.webrtc_id)
        await asyncio.sleep(4)
        frequency = tone_of(client)
        told = reader.outputs()[-1].data
        assert re.fullmatch(r"\d+,\d{3}", told), told
    finally:
        await client.close()
    return f"{frequency:.1f} Hz came back; told: {told} samples"


async def over_websocket(project: Project) -> str:
    """The same handler without WebRTC: all of it through the one port."""
    async with SocketClient(project.url) as client:
        await client.start()
        client.play(TONE)
        await client.wait_for_audio(3)
        frequency = client.peak()
    assert abs(frequency - TONE) < 5, f"{frequency} Hz came back"
    return f"{frequency:.1f} Hz of {TONE:.1f} Hz came back"


async def ice_servers(project: Project) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(project.url + "/rtc-configuration") as response,
    ):
        servers: list[dict[str, Any]] = (await response.json())["iceServers"]
        return servers


async def through_turn(project: Project, kinds: set[str]) -> str:
    """Calls by relayed candidates alone, by each transport, with what the product gave out."""
    (given,) = await ice_servers(project)
    seen = []
    for url in given["urls"]:
        client = client_of(project)
        server = RTCIceServer(urls=url, username=given["username"], credential=given["credential"])
        client.pc = RTCPeerConnection(
            RTCConfiguration(iceServers=[server], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
        )
        try:
            await client.connect()
            await asyncio.sleep(4)
            frequency = tone_of(client)
            offered = re.findall(r" typ (\w+)", client.pc.localDescription.sdp)
        finally:
            await client.close()
        assert set(offered) == {"relay"}, offered
        kind = url.partition("transport=")[2] or "udp"
        kinds.remove(kind)
        seen.append(f"{frequency:.1f} Hz by TURN over {kind.upper()}")
    assert not kinds, f"not tried: {kinds}"
    return ", ".join(seen)


async def turn_refuses(project: Project) -> str:
    """Who has no credentials of the product, and whoever wants to reach another network."""
    (given,) = await ice_servers(project)
    user, password = given["username"], given["credential"]
    server = ("127.0.0.1", project.turn_port)

    async def allocate(password: str) -> turn.TurnTransport:
        transport, _ = await turn.create_turn_endpoint(
            asyncio.DatagramProtocol, server, user, password, transport="tcp"
        )
        return transport

    async def code(attempt: Awaitable[Any]) -> int:
        """The error that the server answers with, 0 for none."""
        try:
            await attempt
        except stun.TransactionFailed as error:
            return int(error.response.attributes["ERROR-CODE"][0])
        return 0

    assert await code(allocate(password[::-1])) == 401
    transport = await allocate(password)
    protocol = transport._TurnTransport__inner_protocol
    worker = project.address(project.containers("workers")[0])
    elsewhere = ("127.0.0.1", "169.254.169.254", "192.0.2.1")
    try:
        codes = [
            await code(protocol.channel_bind(0x4000 + number, (address, 40000)))
            for number, address in enumerate((worker, *elsewhere))
        ]
    finally:
        transport.close()
        await asyncio.sleep(0.2)  # it gives its allocation back
    assert codes == [0, 403, 403, 403], codes
    return "other secrets (401), peers outside of the containers' network (403)"


async def both_nodes(project: Project, stack: AsyncExitStack) -> list[AiortcClient]:
    """At least four calls, and as many as it takes until each of the two nodes has one.

    Where the machine is short of CPU a node may have a second worker: with one each, the call that
    does not fit in a worker's slots has to go to the other node.
    """
    clients: list[AiortcClient] = []
    while True:
        client = client_of(project)
        clients.append(client)
        stack.push_async_callback(client.close)
        await client.connect()
        used = await calls_by_node(project)
        if len(clients) >= 4 and all(used.values()):
            return clients
        assert len(clients) <= 2 * SLOTS, used


async def on_both_nodes(project: Project) -> str:
    """Several calls at once: each node's worker has some, all hear their echo."""
    async with AsyncExitStack() as stack:
        clients = await both_nodes(project, stack)
        await asyncio.sleep(4)
        used = await calls_by_node(project)
        for client in clients:
            tone_of(client)
    assert len(used) == 2, used
    assert min(used.values()) >= 1, used
    assert sum(used.values()) == len(clients), used
    return "calls by node: " + ", ".join(f"{host} {count}" for host, count in used.items())


async def status(project: Project) -> dict[str, Any]:
    """As `Project.status`, while the calls of this process go on."""
    return await asyncio.to_thread(project.status)


async def calls_by_node(project: Project) -> Counter[str]:
    """How many calls each node has, by its address."""
    used: Counter[str] = Counter()
    for worker in (await status(project))["workers"]:
        used[worker["host"]] += worker["used"]
    return used


async def hosts(project: Project) -> dict[str, str]:
    """The address of its node by the id of each connection."""
    told = await status(project)
    nodes = {worker["worker_id"]: worker["host"] for worker in told["workers"]}
    return {c["connection_id"]: nodes[c["worker_id"]] for c in told["connections"]}


async def end_of(reader: Reader, timeout: float) -> str:
    """The reason that a call's readers are told."""
    await reader.wait_for(1, "end", timeout)
    return str(json.loads(reader.outputs("end")[0].data)["reason"])


async def a_node_drains(project: Project) -> str:
    """SIGTERM of a worker node: no call is cut before its time, no new one comes, none is lost.

    Of the calls there one ends by itself, the others when the drain's time is over. Those of the
    other node go on, and it takes the new ones.
    """
    async with AsyncExitStack() as stack:
        clients = await both_nodes(project, stack)
        where = await hosts(project)
        victim = max(set(where.values()), key=list(where.values()).count)
        nodes = await asyncio.to_thread(project.containers, "workers")
        (container,) = (node for node in nodes if project.address(node) == victim)
        there = [c for c in clients if where[c.webrtc_id] == victim]
        elsewhere = [c for c in clients if where[c.webrtc_id] != victim]
        leaver, *stayers = there
        assert stayers, where
        readers = {c.webrtc_id: Reader(project.url + "/updates", c.webrtc_id) for c in clients}
        await asyncio.sleep(2)

        begin = time.monotonic()
        stop = asyncio.create_task(asyncio.to_thread(project.stop_container, container))
        async with asyncio.timeout(10):
            while (victim, "draining") not in [
                (w["host"], w["state"]) for w in (await status(project))["workers"]
            ]:
                await asyncio.sleep(0.2)
        late = [client_of(project) for _ in range(2)]
        for client in late:
            stack.push_async_callback(client.close)
            await client.connect()
            readers[client.webrtc_id] = Reader(project.url + "/updates", client.webrtc_id)
        now = await hosts(project)
        assert all(now[c.webrtc_id] != victim for c in late), now

        await asyncio.sleep(max(0.0, begin + DRAIN_TIMEOUT / 3 - time.monotonic()))
        tone_of(leaver)
        await leaver.close()
        assert await end_of(readers[leaver.webrtc_id], 5) == "client_closed"
        await asyncio.sleep(max(0.0, begin + DRAIN_TIMEOUT - 4 - time.monotonic()))
        for client in (*stayers, *elsewhere, *late):
            assert not readers[client.webrtc_id].outputs("end"), readers[client.webrtc_id]
            tone_of(client)
            lost = await client.packets_lost()
            assert not lost, f"{lost} packets are missing"
        for client in stayers:
            assert await end_of(readers[client.webrtc_id], 10) == "drained"
        drained = time.monotonic() - begin
        await stop
        gone = time.monotonic() - begin
        for client in (*elsewhere, *late):
            assert not readers[client.webrtc_id].outputs("end"), readers[client.webrtc_id]
            lost = await client.packets_lost()
            assert not lost, f"{lost} packets are missing"
        assert gone < DRAIN_TIMEOUT + STOP_TIME, f"it took {gone:.0f} s"
    (code,) = (
        c["State"]["ExitCode"] for c in project.containers("workers") if c["Id"] == container["Id"]
    )
    assert code == 0, code
    return (
        f"1 call ended itself after {DRAIN_TIMEOUT / 3:.0f} s, {len(stayers)} were drained after "
        f"{drained:.1f} s, the node gone after {gone:.1f} s; {len(elsewhere)} others and "
        f"{len(late)} new ones went on; no packet is missing"
    )


async def a_node_crashes(project: Project) -> str:
    """Its calls end with `worker_lost`, the others go on, and the node comes back by itself."""
    async with AsyncExitStack() as stack:
        clients = await both_nodes(project, stack)
        readers = [Reader(project.url + "/updates", c.webrtc_id) for c in clients]
        await asyncio.sleep(2)
        where = await hosts(project)
        victim, _ = await asyncio.to_thread(project.containers, "workers")
        project.crash(victim)
        begin = time.monotonic()
        lost = [where[c.webrtc_id] == project.address(victim) for c in clients]
        assert any(lost), where
        assert not all(lost), where
        for reader, is_lost in zip(readers, lost, strict=True):
            if is_lost:
                assert await end_of(reader, 10) == "worker_lost"
        told = time.monotonic() - begin
        for client, reader, is_lost in zip(clients, readers, lost, strict=True):
            if not is_lost:
                # The node that starts again takes all of a small machine's processors for a while.
                async with asyncio.timeout(20):
                    while client.samples_since(2) < 1.9 * client.rate:
                        await asyncio.sleep(0.2)
                assert not reader.outputs("end"), reader.events[-1]
                tone_of(client)
    project.wait_nodes(2, 120)
    whole = time.monotonic() - begin
    return (
        f"{sum(lost)} of {len(lost)} calls were told after {told:.1f} s; whole after {whole:.0f} s"
    )
