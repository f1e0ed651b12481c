"""The clients of the suite that are no browser; `tests.conformance.observed` says what they do."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aiohttp
import numpy as np

from tests.clients import AiortcClient
from tests.conformance import effects
from tests.conformance.observed import PICTURES, RATE, SECONDS, Observed
from tests.e2e.libwebrtc import LibwebrtcClient
from tests.e2e.sse import Reader
from tests.socket_client import SocketClient

FREQUENCY = 440.0
"""Hz of what is sent."""
SOCKET_RATES = {"websocket": (48000, 24000), "telephone": (8000, 8000)}
"""Hz of what is sent and what comes."""
CONNECT_TIMEOUT = 20.0
PATIENCE = 15.0
"""Seconds that a call may last beyond `SECONDS`, on a machine where less comes than should."""
ENOUGH_SOUND = 3.0
"""Seconds."""
ENOUGH_PICTURES = 2 * PICTURES
ENOUGH_OUTPUTS = 10
_DIRECTIONS = {"send-receive": "sendrecv", "send": "sendonly", "receive": "recvonly"}


class Listener(Protocol):
    """What keeps what comes."""

    samples: list[np.ndarray]
    messages: list[dict[str, Any]]


async def call_with_aiortc(
    base: str, modality: str, mode: str, transport: str = "webrtc"
) -> Observed:
    """A call whose offer has all candidates."""
    url, kinds = f"{base}/{modality}-{mode}", modality.split("-")
    client = AiortcClient(
        url, FREQUENCY, kinds=kinds, direction=_DIRECTIONS[mode], loopback=local(base)
    )
    return await _webrtc(client, url, kinds, mode, None)


async def call_with_libwebrtc(
    base: str, modality: str, mode: str, transport: str = "webrtc"
) -> Observed:
    """A call whose candidates follow its offer."""
    url, kinds = f"{base}/{modality}-{mode}", modality.split("-")
    client = LibwebrtcClient(url, FREQUENCY, kinds, _DIRECTIONS[mode], trickle=True)
    return await _webrtc(client, url, kinds, mode, LibwebrtcClient.SHADE)


async def _webrtc(
    client: AiortcClient | LibwebrtcClient,
    url: str,
    kinds: Sequence[str],
    mode: str,
    right: float | None,
) -> Observed:
    observed = Observed()
    if mode != "receive" and "audio" in kinds:
        observed.sent_frequency = FREQUENCY
    if mode != "receive" and "video" in kinds:
        observed.sent_left, observed.sent_right = 255, right
    try:
        await client.connect(CONNECT_TIMEOUT)
        observed.connected = True

        def enough() -> bool:
            sound = sum(map(len, client.samples)) > ENOUGH_SOUND * client.rate
            seen = len(client.pictures) > ENOUGH_PICTURES
            due = kinds if mode != "send" else ()
            return (sound or "audio" not in due) and (seen or "video" not in due)

        await _talk(client, url, client.webrtc_id, observed, enough)
    except (AssertionError, TimeoutError, aiohttp.ClientError) as error:
        observed.errors.append(repr(error))
    finally:
        await client.close()
    if client.samples:
        observed.audio = _at_48_khz(client.samples, client.rate)
    if client.pictures:
        observed.pictures = client.pictures[-PICTURES:]
    return observed


async def call_with_socket(
    base: str, modality: str, mode: str, transport: str = "websocket"
) -> Observed:
    """A call with WebSocket frames, those of a page or those of Twilio."""
    observed = Observed(sent_frequency=FREQUENCY)
    url = f"{base}/{modality}-{mode}"
    rate, played_rate = SOCKET_RATES[transport]
    try:
        async with SocketClient(url, rate=rate, phone=transport == "telephone") as client:
            await client.start()
            client.play(FREQUENCY)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                while not client.samples and not client.messages:
                    await asyncio.sleep(0.02)
            if client.messages and client.messages[0].get("status") == "failed":
                observed.errors.append(client.messages[0]["meta"]["error"])
                return observed
            observed.connected = True

            def enough() -> bool:
                return sum(map(len, client.samples)) > ENOUGH_SOUND * played_rate

            await _talk(client, url, client.id, observed, enough)
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        observed.errors.append(repr(error))
        return observed
    if client.samples:
        observed.audio = _at_48_khz(client.samples, played_rate)
    return observed


async def _talk(
    client: Listener, url: str, id: str, observed: Observed, enough: Callable[[], bool]
) -> None:
    """Post the inputs, again when asked, and read the outputs until there is enough of all."""
    reader = Reader(url + "/outputs", id)
    loop = asyncio.get_running_loop()
    try:
        async with aiohttp.ClientSession() as session:
            end, asked = loop.time() + SECONDS, -1
            last = end + PATIENCE
            while (now := loop.time()) < end or not (
                now > last or (enough() and len(reader.events) > ENOUGH_OUTPUTS)
            ):
                asks = sum(message.get("type") == "send_input" for message in client.messages)
                if asks > asked:
                    asked = asks
                    await _post(session, url, {"webrtc_id": id, "inputs": effects.INPUTS})
                await asyncio.sleep(0.02)
        observed.messages = list(client.messages)
        observed.outputs = [json.loads(event.data) for event in reader.outputs("output")]
        if ends := reader.outputs("end"):
            observed.errors.append(f"the connection ended: {ends[0].data}")
        if reader.lost or reader.status != 200:
            observed.errors.append(f"/outputs answered {reader.status} or was lost")
    finally:
        await reader.close()


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with session.post(url + "/input_hook", json=body) as response:
        assert response.status == 200, await response.text()


def _at_48_khz(samples: list[np.ndarray], rate: int) -> np.ndarray:
    heard = np.concatenate(samples).astype(np.float32) / 32768
    at = np.arange(heard.size * RATE // rate) * (rate / RATE)
    return np.interp(at, np.arange(heard.size), heard).astype(np.float32)


def local(base: str) -> bool:
    """Whether the system is on this machine: then its media may be on loopback."""
    return "//127.0.0.1" in base or "//localhost" in base
