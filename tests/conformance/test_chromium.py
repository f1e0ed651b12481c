"""Habits of pages beside those of the sample code, in Chromium."""

import asyncio
from contextlib import AbstractAsyncContextManager

from playwright.async_api import Browser, Page

from tests.conformance.chromium import call, chromium, opened
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
