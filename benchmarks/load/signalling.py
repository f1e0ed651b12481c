"""A caller after the other, each from its offer to the first media that comes back."""

import asyncio
from collections.abc import Callable

import aiohttp

from benchmarks.load.protocol import Load, Result
from capacity import opus, sound
from capacity.peer import Peer

PAUSE = 0.1
"""Seconds between two callers."""


async def call_in_turn(load: Load, tell: Callable[[str], None]) -> Result:
    """`load.connections` calls; they send speech as soon as they are connected."""
    packets = opus.encoded(sound.speech_with_bursts)
    timings: dict[str, list[float]] = {"answer": [], "connected": [], "first media": []}
    tell("begin")
    async with aiohttp.ClientSession() as session:
        for _ in range(load.connections):
            peer = Peer(load.url)
            try:
                await peer.connect(session, open_channel=False)
                sending = asyncio.create_task(_speak(peer, packets))
                try:
                    first = await peer.first_media()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                timings["answer"].append(peer.answer_time - peer.offer_time)
                timings["connected"].append(peer.connected_time - peer.offer_time)
                timings["first media"].append(first - peer.offer_time)
            finally:
                await peer.close()
            await asyncio.sleep(PAUSE)
    tell("end")
    count = len(timings["answer"])
    return Result(sent=count, received=count, timings=timings)


async def _speak(peer: Peer, packets: tuple[bytes, ...]) -> None:
    for count, packet in enumerate(packets):
        peer.send(packet, count * opus.FRAME, marker=not count)
        await asyncio.sleep(0.02)
