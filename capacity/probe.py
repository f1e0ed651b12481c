"""The first call: can the deployment be reached, by which address, and what does it send back."""

import asyncio
import contextlib

import aiohttp

from capacity import socket_peer
from capacity.addresses import LOOPBACK, address_towards, all_addresses
from capacity.call import PACKET, Call, make_call
from capacity.load import CONNECT_TIMEOUT, FINISH_TIMEOUT
from capacity.pace import Pace
from capacity.protocol import Target
from capacity.refusal import PATIENCE, Refused

WARMUP = 1.0
SECONDS = 4.0
"""For which the call is listened to: as many markers are sent."""
MARKERS = 2
"""That have to come back for an echo."""


class Unusable(Exception):
    """No call can be made, or none that tells anything; the text says why, in one line."""


async def probe(target: Target) -> Target:
    """Call once; returns the target with what was found out.

    Raises:
        Unusable
    """
    reaching = target.model_copy(update={"addresses": all_addresses()})
    async with aiohttp.ClientSession() as session:
        call = make_call(reaching, 0)
        try:
            await _connect(call, session, target)
            found = {"addresses": [_local_address(call)]}
            return target.model_copy(update=found | await _listen(call))
        finally:
            with contextlib.suppress(TimeoutError):  # nobody is there any more
                async with asyncio.timeout(FINISH_TIMEOUT):
                    await call.close()


async def _connect(call: Call, session: aiohttp.ClientSession, target: Target) -> None:
    try:
        await call.connect(session, CONNECT_TIMEOUT)
    except Refused as refused:
        raise Unusable(_explained(refused, target)) from None
    except aiohttp.ClientError as error:
        why = getattr(error, "strerror", None) or error
        raise Unusable(f"{target.url} cannot be reached: {why}") from None
    except (TimeoutError, ConnectionError):
        raise Unusable(_unconnected(call, target)) from None


def _explained(refused: Refused, target: Target) -> str:
    """What the first refusal most likely means for who gave the command."""
    what = f"{refused.code} {refused.detail}".strip()
    if refused.code in PATIENCE:
        return f"there is no room for a first call: {what}"
    if refused.code == "http_403" and target.transport == "websocket":
        return f"there is no stream at {target.url} (give its prefix with --path), or no access"
    if refused.status in (401, 403):
        return f"the call was refused: {what}; give credentials with --header"
    if refused.status in (404, 405):
        return f"there is no stream at {target.url} ({what}); give its prefix with --path"
    if refused.code == "unsupported_track":
        return f"this stream does not take calls of sound over {target.transport}: {what}"
    return f"the first call was refused: {what}"


def _unconnected(call: Call, target: Target) -> str:
    if not call.peer.answer_time and target.transport == "webrtc":
        return f"{target.url} does not answer an offer within {CONNECT_TIMEOUT:.0f} s"
    if target.transport == "websocket":
        return f"{target.url} does not start a call within {CONNECT_TIMEOUT:.0f} s"
    return (
        f"{target.url} takes calls, but no media goes between this machine and the worker: "
        "is its UDP port open? (calls are made without TURN)"
    )


def _local_address(call: Call) -> str:
    """By which this machine reaches the workers: that of its packets to the one that answered."""
    if isinstance(call.peer, socket_peer.SocketPeer):
        return LOOPBACK  # is not used
    try:
        return address_towards(*call.peer.remote)
    except OSError:
        return LOOPBACK


async def _listen(call: Call) -> dict[str, bool]:
    """Whether the handler sends media, and whether that is an echo."""
    pace = Pace(PACKET, 1)
    pace.add(call.send)
    talking = asyncio.create_task(pace.run())
    try:
        await asyncio.sleep(WARMUP)
        call.begin()
        await asyncio.sleep(SECONDS)
        call.end()
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    if call.peer.ended:
        raise Unusable("the deployment ended the first call within seconds")
    media = call.peer.first_media_time is not None
    call.target = call.target.model_copy(update={"echo": True})
    _, trips = call.sample(trips=True)
    return {"media": media, "echo": len(trips) >= MARKERS}
