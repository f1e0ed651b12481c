"""The cells of the table, and the calls that fill them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from tests.conformance import calls
from tests.conformance.observed import Observed

CLIENTS = ("Chromium", "aiortc", "libwebrtc", "aiohttp")
TRANSPORTS = ("webrtc", "websocket", "telephone")
MODALITIES = ("audio", "video", "audio-video")
MODES = ("send-receive", "send", "receive")
TIMEOUT = 60.0
"""Seconds of a call, the start of its client included."""


@dataclass(frozen=True)
class Cell:
    """One call of the table."""

    client: str
    transport: str
    modality: str
    mode: str

    def __str__(self) -> str:
        return f"{self.client}/{self.transport}/{self.modality}/{self.mode}"

    @property
    def supported(self) -> bool:
        """Whether the contract has it: over sockets, sound both ways alone."""
        return self.transport == "webrtc" or (self.modality, self.mode) == ("audio", "send-receive")


def _cells() -> list[Cell]:
    combinations = list(itertools.product(MODALITIES, MODES))
    cells = [
        Cell(client, "webrtc", *combination)
        for client in CLIENTS[:-1]
        for combination in combinations
    ]
    cells.append(Cell("Chromium", "websocket", "audio", "send-receive"))
    for transport in ("websocket", "telephone"):
        cells += [Cell("aiohttp", transport, *combination) for combination in combinations]
    return cells


CELLS = _cells()

Call = Callable[[str, str, str, str], Awaitable[Observed]]


async def observe(
    base: str, cells: Sequence[Cell], room: asyncio.Semaphore
) -> dict[Cell, Observed]:
    """Make these calls, as many at a time as there is room for."""
    functions: dict[str, Call] = {
        "aiortc": calls.call_with_aiortc,
        "libwebrtc": calls.call_with_libwebrtc,
        "aiohttp": calls.call_with_socket,
    }

    async def one(cell: Cell) -> Observed:
        try:
            async with room, asyncio.timeout(TIMEOUT):
                call = functions[cell.client]
                return await call(base, cell.modality, cell.mode, cell.transport)
        except Exception as error:  # a client that fails is a cell that fails, not all of them
            return Observed(errors=[repr(error)])

    async with AsyncExitStack() as stack:
        if any(cell.client == "Chromium" for cell in cells):
            from tests.conformance import chromium  # needs playwright

            browser = await stack.enter_async_context(chromium.chromium())
            functions["Chromium"] = partial(chromium.call, browser=browser)
        return dict(zip(cells, await asyncio.gather(*map(one, cells)), strict=True))
