"""Calls an echo with a tone, to be run on a host of its own. Prints a JSON line for each call.

* `connect`: seconds from the offer to the first packet of sound from the server.
* `heard`: seconds of the tone that came back from then on; `gap`: the longest time without it;
  `hertz`: its frequency.
* `out`, `in`: packets on the way to the server and back, and those of them that are missing by
  their sequence numbers (`out`: in the last RTCP report of the server).
* `relay`: the address of the server's side, if a TURN server has it.
* `candidates`: type, address and port of each in the answer; `address`: those in its `c=` lines.
"""

import argparse
import asyncio
import json
import re
import time
from typing import Any

import numpy as np

from tests.clients import AiortcClient
from tests.e2e.libwebrtc import LibwebrtcClient
from tests.e2e.spectrum import peak

CONNECT_TIMEOUT = 30.0
LOUD = 1000
"""RMS of a frame that has the tone; it is sent with 8485."""
Client = AiortcClient | LibwebrtcClient


async def call(client: Client, seconds: float) -> dict[str, Any]:
    """Connect, listen for `seconds`, hang up."""
    report: dict[str, Any] = {"connect": None}
    begin = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await client.connect(CONNECT_TIMEOUT)
            while not await _packets_received(client):
                await asyncio.sleep(0.02)
        report["connect"] = round(time.monotonic() - begin, 2)
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        report |= _sound(client, begin, time.monotonic()) | await _packets(client)
        report |= _answer(client)
    except TimeoutError:
        report["failed"] = "not connected in time"
    finally:
        await client.close()
    return report


async def _packets_received(client: Client) -> int:
    if isinstance(client, AiortcClient):
        stats = (await client.pc.getStats()).values()
        return sum(entry.packetsReceived for entry in stats if entry.type == "inbound-rtp")
    stats = (await client.pc.get_stats()).values()
    return sum(e.packets_received for e in stats if e.type.value == "inbound-rtp")


def _sound(client: Client, begin: float, end: float) -> dict[str, float]:
    loud = [
        (arrival, len(samples) / client.rate)
        for arrival, samples in zip(client.arrivals, client.samples, strict=True)
        if np.sqrt(np.mean(np.square(samples.astype(np.float32)))) > LOUD
    ]
    times = [begin, *(arrival for arrival, _ in loud), end]
    return {
        "heard": round(sum(seconds for _, seconds in loud), 2),
        "gap": round(float(np.diff(times).max()), 2),
        "hertz": round(peak(np.concatenate(client.samples), client.rate)) if loud else None,
    }


async def _packets(client: Client) -> dict[str, Any]:
    if isinstance(client, AiortcClient):
        stats = {entry.type: vars(entry) for entry in (await client.pc.getStats()).values()}
        names = ("packetsSent", "packetsReceived", "packetsLost")
        transport = client.pc.getTransceivers()[0].receiver.transport.transport
        (pair,) = transport._connection._nominated.values()
        kind, address = pair.remote_candidate.type, pair.remote_candidate.host
    else:
        report = await client.pc.get_stats()
        stats = {entry.type.value: vars_of(entry) for entry in report.values()}
        names = ("packets_sent", "packets_received", "packets_lost")
        pair = report[stats["transport"]["selected_candidate_pair_id"]]
        candidate = report[pair.remote_candidate_id]
        kind, address = candidate.candidate_type.value, candidate.address
    sent, received, lost = names
    come = (("received", received), ("lost", lost))
    return {
        "out": {
            "sent": stats["outbound-rtp"][sent],
            "lost": stats.get("remote-inbound-rtp", {}).get(lost),
        },
        "in": {name: stats.get("inbound-rtp", {}).get(key, 0) for name, key in come},
        "relay": address if kind == "relay" else None,
    }


def _answer(client: Client) -> dict[str, Any]:
    if isinstance(client, AiortcClient):
        sdp = client.pc.remoteDescription.sdp
    else:
        sdp = client.pc.remote_description.sdp
    found = re.findall(r"^a=candidate:.* (\S+) (\d+) typ (\w+)", sdp, re.MULTILINE)
    return {
        "candidates": sorted({(kind, address, int(port)) for address, port, kind in found}),
        "address": sorted(set(re.findall(r"^c=IN IP[46] (\S+)", sdp, re.MULTILINE))),
    }


def vars_of(entry: Any) -> dict[str, Any]:
    """The attributes of a native object."""
    return {name: getattr(entry, name) for name in dir(entry) if not name.startswith("_")}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--client", choices=("aiortc", "libwebrtc"), default="aiortc")
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    for _ in range(arguments.calls):
        if arguments.client == "aiortc":
            client: Client = AiortcClient(arguments.url, loopback=False)
        else:
            client = LibwebrtcClient(arguments.url)
        print(json.dumps(await call(client, arguments.seconds)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
