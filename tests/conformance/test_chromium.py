"""Habits of pages beside those of the sample code, in Chromium."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

from playwright.async_api import Browser, Page

from tests.conformance.call import events
from tests.conformance.chromium import FREQUENCY, call, chromium, opened
from tests.conformance.observed import Observed
from tests.conformance.verify import problems

HABITS = {
    "sends no candidates": {"candidates": "none"},
    "sends all candidates in its offer": {"candidates": "gathered"},
    "never listens to its data channel": {"channel": "unused"},
}


async def test_pages_differ_in_what_they_send(base_url: str) -> None:
    """Pages that do not trickle, and one that never uses its data channel, work"""
    async with chromium() as browser:
        calls = (
            call(base_url, "audio", "send-receive", "webrtc", browser, **options)
            for options in HABITS.values()
        )
        observed = dict(zip(HABITS, await asyncio.gather(*calls), strict=True))
    wrong = {habit: problems(seen, "audio", "send-receive") for habit, seen in observed.items()}
    assert wrong == {habit: [] for habit in HABITS} | {
        "never listens to its data channel": ["messages of the types set()"]
    }


async def test_a_page_shows_why_it_was_refused(base_url: str) -> None:
    """The sample code shows the limit of a refused offer's body"""
    refused = Observed()
    async with (
        chromium() as browser,
        _single(browser, base_url, Observed()) as first,
        _single(browser, base_url, refused) as second,
    ):
        assert await _started(first) == ""
        assert await _started(second) == "Too many connections. Maximum limit is 1"
        await first.click("#stop")
        await first.wait_for_function("peerConnection.connectionState === 'closed'")
    assert refused.errors[0].startswith("429 ")


OTHER_ORIGIN = "http://localhost:9/page.html"
"""Of a page that comes from nowhere near the system."""
PUBLISH_AND_PLAY = """async ([whip, whep]) => {
  const headers = {Authorization: "Bearer TOKEN"}
  const begin = async (url, pc) => {
    await pc.setLocalDescription()
    const answer = await fetch(url, {
      method: "POST",
      headers: {"Content-Type": "application/sdp", ...headers},
      body: pc.localDescription.sdp,
    })
    if (answer.status !== 201) throw Error(await answer.text())
    const session = new URL(answer.headers.get("Location"), answer.url).href
    await pc.setRemoteDescription({type: "answer", sdp: await answer.text()})
    await new Promise(done => {
      pc.onconnectionstatechange = () => pc.connectionState === "connected" && done()
    })
    return {session, etag: answer.headers.get("ETag")}
  }
  const media = await navigator.mediaDevices.getUserMedia({audio: true})
  const publisher = new RTCPeerConnection(), player = new RTCPeerConnection()
  publisher.addTransceiver(media.getAudioTracks()[0], {direction: "sendonly"})
  player.addTransceiver("audio", {direction: "recvonly"})
  const [published, played] = [await begin(whip, publisher), await begin(whep, player)]
  const packets = async () => {
    const stats = [...(await player.getStats()).values()]
    return stats.find(entry => entry.type === "inbound-rtp")?.packetsReceived ?? 0
  }
  while (await packets() < 50) await new Promise(done => setTimeout(done, 50))
  window.end = async () => {
    const statuses = []
    for (const {session} of [published, played]) {
      statuses.push((await fetch(session, {method: "DELETE", headers})).status)
    }
    return statuses
  }
  return published
}"""


async def test_a_page_of_another_origin(base_url: str) -> None:
    """It publishes by WHIP and plays by WHEP, as its browser asks first and is let"""
    url = f"{base_url}/audio-send"
    async with chromium() as browser:
        context = await browser.new_context(permissions=["microphone", "local-network-access"])
        page = await context.new_page()
        await page.route(
            OTHER_ORIGIN, lambda route: route.fulfill(body="", content_type="text/html")
        )
        await page.goto(OTHER_ORIGIN)
        endpoints = [f"{url}/whip", f"{base_url}/at-once/whep"]
        async with asyncio.timeout(30):
            published: dict[str, Any] = await page.evaluate(PUBLISH_AND_PLAY, endpoints)
            assert published["etag"]
            await asyncio.sleep(1)  # of the microphone's tone
            assert await page.evaluate("end()") == [200, 200]
        await context.close()
    *outputs, end = await events(f"{url}/outputs", published["session"].rpartition("/")[2])
    assert json.loads(end.data) == {"reason": "client_closed"}
    assert any(abs(json.loads(o.data)[0]["frequency"] - FREQUENCY) < 6 for o in outputs), outputs


def _single(
    browser: Browser, base_url: str, observed: Observed
) -> AbstractAsyncContextManager[Page]:
    """A page of the stream that takes one connection."""
    query = {"modality": "audio", "mode": "send-receive"}
    return opened(browser, f"{base_url}/single", "webrtc", query, observed)


async def _started(page: Page) -> str:
    """The error that a page shows once it is connected or refused."""
    await page.click("#start")
    await page.wait_for_function(
        "error.textContent || peerConnection?.connectionState === 'connected'"
    )
    return await page.inner_text("#error")
