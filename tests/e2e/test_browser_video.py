"""The page in Chromium with a fake camera: what a person sees who opens it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.browser import browsing
from tests.e2e.stack import Stack

PIXELS = """(id) => {
  const video = document.getElementById(id);
  const canvas = new OffscreenCanvas(video.videoWidth || 1, video.videoHeight || 1);
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum += data[i] + data[i + 1] + data[i + 2];
  return {width: video.videoWidth, mean: sum / data.length * 4 / 3, time: video.currentTime};
}"""


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """Script errors fail the test."""
    async with browsing(fps=15) as chromium:
        page = await chromium.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        yield page
        assert problems == []


async def call(page: Page, stack: Stack, stream: str) -> None:
    """Open the page of a stream of the application and connect."""
    name = f"page-{stream}"
    if name not in stack.replicas:
        stack.start_replica(name, f"tests.e2e.app:{stream}")
        await asyncio.to_thread(stack.wait_ready)
    await page.goto(stack.replicas[name])
    await page.click("#connect")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected", timeout=15000)


async def brightness(page: Page, id: str, low: float, high: float) -> None:
    """Wait until the mean of a video's pixels is between `low` and `high`."""
    async with asyncio.timeout(15):
        while not low <= (shown := await page.evaluate(PIXELS, id))["mean"] <= high:
            await asyncio.sleep(0.2)
    assert shown["width"] > 0


async def test_a_person_sees_the_effect_and_changes_it(page: Page, stack: Stack) -> None:
    """The camera is shown beside the reply; the slider takes the picture away, all but edges."""
    await call(page, stack, "effect")
    await page.locator("#inputs input[type=number]").first.fill("0")
    await brightness(page, "preview", 40, 255)
    camera = (await page.evaluate(PIXELS, "preview"))["mean"]
    await brightness(page, "reply-video", camera - 15, camera + 15)
    await page.locator("#inputs input[type=number]").first.fill("1")
    await brightness(page, "reply-video", 0, camera / 2)
    before = (await page.evaluate(PIXELS, "reply-video"))["time"]
    await asyncio.sleep(2)
    assert (await page.evaluate(PIXELS, "reply-video"))["time"] > before + 1
    await page.click("#connect")
    await expect(page.locator("#state")).to_have_attribute("data-state", "idle", timeout=5000)
    assert await page.evaluate("document.getElementById('preview').srcObject === null")


async def test_receiving_asks_for_no_device(page: Page, stack: Stack) -> None:
    """Sound and picture come in one element; neither camera nor microphone is opened."""
    await page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => { throw new Error('a device was opened'); };"
    )
    await call(page, stack, "cinema")
    await brightness(page, "reply-video", 180, 220)
    assert not await page.locator("#preview-figure").is_visible()
    kinds = "document.getElementById('reply-video').srcObject.getTracks().map((t) => t.kind).sort()"
    assert await page.evaluate(kinds) == ["audio", "video"]
    level = "document.getElementById('reply-level').value > 0.3"
    await page.wait_for_function(level, timeout=10000)
    await page.locator("#inputs input[type=number]").first.fill("40")
    await asyncio.sleep(1)
    await brightness(page, "reply-video", 180, 220)  # a generator gets its inputs once
