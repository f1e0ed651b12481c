"""Callers that are given inputs by `POST /input_hook`, at a steady rate over all of them."""

import asyncio
import time
from collections.abc import Callable

import aiohttp

from benchmarks.load.audio import AudioCallers
from benchmarks.load.protocol import Load, Result
from capacity.peer import Peer

RATE = 200.0
"""Inputs a second."""
TIMEOUT = aiohttp.ClientTimeout(total=10)


class InputCallers(AudioCallers):
    """Silent callers; each input is the time at which its request was begun."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._answered: list[float] = []

    async def during(self) -> None:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, asyncio.TaskGroup() as posts:
            begin = time.monotonic()
            for count in range(round(self.load.seconds * RATE)):
                await asyncio.sleep(max(0.0, begin + count / RATE - time.monotonic()))
                posts.create_task(self._post(session, self.peers[count % len(self.peers)]))

    async def _post(self, session: aiohttp.ClientSession, peer: Peer) -> None:
        began = time.monotonic()
        body = {"webrtc_id": peer.webrtc_id, "inputs": [began]}
        async with session.post(self.load.url + "/input_hook", json=body) as response:
            if response.status == 200:
                self._answered.append(time.monotonic() - began)

    def result(self) -> Result:
        return Result(
            sent=round(self.load.seconds * RATE),
            received=len(self._answered),
            timings={"post": self._answered},
        )


async def post_inputs(load: Load, tell: Callable[[str], None]) -> Result:
    """Call, post, hang up."""
    return await InputCallers(load).run(tell)
