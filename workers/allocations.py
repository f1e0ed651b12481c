"""TURN allocations of this side are given up soon when their server has gone silent.

aioice asks for a minute, and a peer connection does not close before. `workers.patches` puts
`delete` in its place.
"""

import asyncio

from aioice.turn import TurnClientMixin

DELETE_TIMEOUT = 2.0
"""Seconds that the server may take; it frees an allocation that is not refreshed by itself."""

_delete = TurnClientMixin.delete


async def delete(self: TurnClientMixin) -> None:
    """Delete the allocation and close the way to its server, whether that answers or not."""
    try:
        async with asyncio.timeout(DELETE_TIMEOUT):
            await _delete(self)
    except TimeoutError:
        pass  # the socket is closed: aioice does so even when it is cancelled
