"""Passes frames between a client's WebSocket and a worker's, as they are, both ways.

Under `rayrtc control-plane` their bytes go through as they come (`control_plane.splice`), under any
other server message by message. Nothing is queued here: a side that takes no frames is not read
from the other one, so that TCP holds up the sender.
"""

import asyncio
import logging

from aiohttp import ClientWebSocketResponse, WSMsgType
from starlette.websockets import WebSocket, WebSocketDisconnect

from control_plane.client_socket import ClientSocket
from control_plane.limits import FRAME_MAX, SEND_TIMEOUT
from control_plane.splice import End, Splice
from control_plane.worker_socket import WorkerSocket
from rayrtc.errors import InvalidMessage, RayRTCError, TooLarge
from rayrtc.messages import create_message
from rayrtc.websocket_frames import NORMAL

logger = logging.getLogger(__name__)

INTERNAL_ERROR = 1011
"""Close code (RFC 6455, 7.4.1)."""


async def splice(client: WebSocket, socket: ClientSocket, worker: WorkerSocket) -> None:
    """Pass bytes on until either side ends; then both are closed.

    Args:
        socket: that of `client`.
    """
    spliced = Splice(socket, worker)
    try:
        end = await spliced.run()
    except RayRTCError as error:
        if spliced.client_between_frames:
            await refuse(client, error)
        return
    if end is End.WORKER:
        await close(client, NORMAL)
    elif end is End.WORKER_LOST and spliced.client_between_frames:
        await _tell_lost(client)


async def relay(client: WebSocket, worker: ClientWebSocketResponse) -> None:
    """Pass messages on until either side ends; then both are closed."""
    tasks = {
        asyncio.create_task(_to_worker(client, worker)),
        asyncio.create_task(_to_client(worker, client)),
    }
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await worker.close()
    for error in results:
        if isinstance(error, RayRTCError):
            await refuse(client, error)
        elif isinstance(error, Exception):
            logger.error("a WebSocket failed", exc_info=error)
            await close(client, INTERNAL_ERROR)


async def _to_worker(client: WebSocket, worker: ClientWebSocketResponse) -> None:
    while (text := await receive_text(client)) is not None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await worker.send_str(text)
        except (TimeoutError, ConnectionError):
            return


async def _to_client(worker: ClientWebSocketResponse, client: WebSocket) -> None:
    while (frame := await worker.receive()).type is WSMsgType.TEXT:
        if not await _send(client, frame.data):
            return
    if worker.close_code != NORMAL:
        await _tell_lost(client)
    else:
        await close(client, NORMAL)


async def _tell_lost(client: WebSocket) -> None:
    logger.warning("a worker's WebSocket was lost")
    await _send(client, create_message("error", "The connection to the server was lost."))
    await close(client, INTERNAL_ERROR)


async def receive_text(client: WebSocket) -> str | None:
    """The next text frame of a client; None when it has gone.

    Raises:
        TooLarge: the frame is larger than `FRAME_MAX`.
        InvalidMessage: it is binary.
    """
    message = await client.receive()
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    if text is None:
        raise InvalidMessage("frames are text")
    if len(text) > FRAME_MAX or (not text.isascii() and len(text.encode()) > FRAME_MAX):
        raise TooLarge(f"a frame has at most {FRAME_MAX} bytes")
    return text


async def refuse(client: WebSocket, error: RayRTCError) -> None:
    """Tell a client why it is not served, and close its WebSocket."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await client.send_json(error.body())
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        return
    await close(client, NORMAL)


async def close(client: WebSocket, code: int) -> None:
    """Close a client's WebSocket, if it is still there."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await client.close(code)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        logger.debug("the client had gone already")


async def _send(client: WebSocket, text: str) -> bool:
    """Whether the client took the frame."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await client.send_text(text)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        return False
    return True
