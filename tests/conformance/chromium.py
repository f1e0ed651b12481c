"""Chromium as a client of the suite: pages that do what FastRTC's sample code does, with a fake
microphone that hears a tone and a fake camera that sees a picture with a bright left half.

The pages are put at the origin under test by Chromium itself: of the system they need its API only.
"""

import asyncio
import base64
import json
import tempfile
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from playwright.async_api import Browser, Error, Page, Response, Route

from tests.browser import browsing
from tests.conformance import effects
from tests.conformance.observed import PICTURES, RATE, SECONDS, Observed

PAGES = Path(__file__).parent / "pages"
CONNECT_TIMEOUT = 20.0
"""Seconds for everything that a page waits for."""
FREQUENCY = 440.0
"""Hz of what the microphone hears."""
PLAYED_RATE = 24000
"""Hz at which the page plays a call over WebSocket."""
LEFT, RIGHT = 180, 60
"""Brightness of the halves of what the camera sees."""
FPS = 10
ENDED = {
    "webrtc": "peerConnection.connectionState === 'closed'",
    "websocket": "webSocket.readyState === WebSocket.CLOSED",
}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser for any number of calls at once; each gets a profile of its own."""
    with tempfile.TemporaryDirectory(prefix="rt-") as directory:
        tone, picture = Path(directory) / "tone.wav", Path(directory) / "picture.y4m"
        _write_tone(tone)
        _write_picture(picture)
        async with browsing(str(tone), picture) as browser:
            yield browser


async def call(
    base: str,
    modality: str,
    mode: str,
    transport: str = "webrtc",
    browser: Browser | None = None,
    **options: str,
) -> Observed:
    """Call `{base}/{modality}-{mode}` from a page; see `tests.conformance.observed`.

    Args:
        base: URL of the system under test.
        browser: for this call and others at the same time; without it a new one is started.
        options: further members of the page's query.
    """
    if browser is None:
        async with chromium() as browser:
            return await call(base, modality, mode, transport, browser, **options)
    observed = Observed()
    if mode != "receive" and "audio" in modality:
        observed.sent_frequency = FREQUENCY
    if mode != "receive" and "video" in modality:
        observed.sent_left, observed.sent_right = LEFT, RIGHT
    query = {
        "modality": modality,
        "mode": mode,
        "inputs": json.dumps(effects.INPUTS),
        "rate": str(RATE),
        **options,
    }
    try:
        async with opened(browser, f"{base}/{modality}-{mode}", transport, query, observed) as page:
            await page.click("#start")
            await (_talk_webrtc if transport == "webrtc" else _talk_websocket)(page, observed)
            await page.click("#stop")
            await page.wait_for_function(ENDED[transport])  # a page that is gone says no goodbye
    except Error as error:
        observed.errors.append(str(error))
    return observed


@asynccontextmanager
async def opened(
    browser: Browser, url: str, transport: str, query: dict[str, str], observed: Observed
) -> AsyncIterator[Page]:
    """The page for the stream at `url`, not started; its complaints go into `observed.errors`."""
    html = (PAGES / f"{transport}.html").read_text(encoding="utf-8")

    async def serve(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html; charset=utf-8")

    # Chromium takes a page that came from no server for one of the internet
    context = await browser.new_context(
        permissions=["camera", "microphone", "local-network-access"]
    )
    try:
        page = await context.new_page()
        page.set_default_timeout(CONNECT_TIMEOUT * 1000)
        page.on("pageerror", lambda error: observed.errors.append(str(error)))
        page.on("response", partial(_note_refusal, observed))
        address = f"{url}/page.html?{urlencode({'prefix': urlsplit(url).path, **query})}"
        await page.route(address, serve)
        await page.goto(address)
        yield page
        if text := await page.text_content("#error"):
            observed.errors.append(text)
    finally:
        await context.close()


def _note_refusal(observed: Observed, response: Response) -> None:
    if response.status >= 400:
        observed.errors.append(f"{response.status} {response.url}")


async def _talk_webrtc(page: Page, observed: Observed) -> None:
    """Wait for the connection, send inputs and watch for the time of a call."""
    await page.wait_for_function(
        "peerConnection?.connectionState === 'connected' || error.textContent"
    )
    if await page.text_content("#error"):
        return
    observed.connected = True
    await page.evaluate((PAGES / "observe.js").read_text(encoding="utf-8"))
    tap = await page.evaluate_handle(f"observe(output, {RATE}, {PICTURES})")
    await page.click("#inputs")
    await asyncio.sleep(SECONDS)
    seen = await page.evaluate("(tap) => tap.end()", tap)
    state = await page.evaluate("peerConnection.connectionState")
    if state != "connected":
        observed.errors.append(f"the connection is {state} before its end")
    await _take_data(page, observed)
    if "audio" in seen["kinds"]:
        observed.audio = np.frombuffer(base64.b64decode(seen["audio"]), np.float32)
    if "video" in seen["kinds"]:
        observed.pictures = [_picture(**picture) for picture in seen["pictures"]]


async def _talk_websocket(page: Page, observed: Observed) -> None:
    """The same for a call over WebSocket: it is up when the server has said something."""
    await page.wait_for_function("messages.length || played.length || error.textContent")
    if await page.text_content("#error"):
        return
    observed.connected = True
    await page.click("#inputs")
    await asyncio.sleep(SECONDS)
    if await page.evaluate("webSocket.readyState !== WebSocket.OPEN"):
        observed.errors.append("the socket is closed before its end")
    await _take_data(page, observed)
    played = np.array(await page.evaluate("played"), np.float32)
    at = np.arange(played.size * RATE // PLAYED_RATE) * PLAYED_RATE / RATE
    observed.audio = np.interp(at, np.arange(played.size), played).astype(np.float32)


async def _take_data(page: Page, observed: Observed) -> None:
    data: dict[str, Any] = await page.evaluate("({messages, updates})")
    observed.messages = data["messages"]
    # `/updates` carries the first argument of each output, a string as it is
    observed.outputs = [[json.loads(update)] for update in data["updates"]]


def _picture(width: int, height: int, data: str) -> np.ndarray:
    """A canvas' pixels (base64 of red, green, blue, alpha) as blue, green, red."""
    pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
    return pixels[:, :, 2::-1]


def _write_tone(path: Path) -> None:
    """Ten seconds; Chromium plays them again and again."""
    samples = np.sin(2 * np.pi * FREQUENCY * np.arange(10 * RATE) / RATE) * 28000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype(np.int16).tobytes())


def _write_picture(path: Path) -> None:
    """A still of 320 x 240 as YUV4MPEG2, of the brightness limits of video (16 to 235)."""
    luma = np.empty((240, 320), np.uint8)
    for columns, brightness in ((slice(0, 160), LEFT), (slice(160, None), RIGHT)):
        luma[:, columns] = 16 + brightness * 219 // 255
    frame = b"FRAME\n" + luma.tobytes() + bytes([128]) * (2 * 160 * 120)
    header = f"YUV4MPEG2 W320 H240 F{FPS}:1 Ip A1:1 C420\n".encode()
    path.write_bytes(header + frame * FPS)
