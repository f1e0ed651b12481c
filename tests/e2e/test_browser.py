"""The page in Chromium with a fake microphone: what a person gets who opens it."""

import asyncio
import re
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import browsing
from tests.e2e.spectrum import peak

RATE = 48000
RECORD = """async (seconds) => {
  const context = new AudioContext({sampleRate: 48000});
  const source = context.createMediaStreamSource(document.getElementById("reply").srcObject);
  const tap = context.createScriptProcessor(4096, 1, 1);
  const samples = [];
  tap.onaudioprocess = (event) => samples.push(...event.inputBuffer.getChannelData(0));
  source.connect(tap).connect(context.destination);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  await context.close();
  return samples;
}"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    tone = tmp_path / "tone.wav"
    samples = np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE) * 12000
    with wave.open(str(tone), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype(np.int16).tobytes())
    async with browsing(str(tone)) as chromium:
        yield chromium


async def call(page: Page, url: str) -> None:
    await page.goto(url)
    await page.click("#connect")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected", timeout=15000)


async def recorded(page: Page, seconds: float) -> np.ndarray:
    samples = np.array(await page.evaluate(RECORD, seconds))
    return samples[np.argmax(np.abs(samples) > 0.001) :]


def loudness(samples: np.ndarray) -> float:
    """Median RMS of its tenths of a second: a browser that waits for a processor leaves gaps."""
    tenth = RATE // 10
    return float(np.median(samples[: len(samples) // tenth * tenth].reshape(-1, tenth).std(axis=1)))


async def packets_in(page: Page) -> tuple[float, int]:
    """The time in seconds when the page shows another number of packets, and that number."""
    shown = page.locator("[data-stat=packets-in]")
    before = await shown.text_content()
    async with asyncio.timeout(10):
        while (text := await shown.text_content()) == before:
            await asyncio.sleep(0.05)
    return time.monotonic(), int(re.sub(r"\D", "", text or ""))


async def test_a_person_hears_the_reply_and_changes_it(browser: Browser, page_url: str) -> None:
    """The tone comes back; the form changes its volume; outputs and statistics appear."""
    page = await browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    await call(page, page_url)
    began, first = await packets_in(page)
    await asyncio.sleep(5)
    ended, last = await packets_in(page)
    assert (last - first) / (ended - began) > 40
    before = await recorded(page, 3)
    assert abs(peak(before[-2 * RATE :], RATE) - 440) < 5
    await page.locator("#inputs input[type=number]").first.fill("0.25")
    await page.keyboard.press("Tab")
    await asyncio.sleep(2)
    after = await recorded(page, 3)
    assert loudness(after) / loudness(before) == pytest.approx(0.25, rel=0.1)
    await expect(page.locator("#outputs li").first).to_be_visible(timeout=5000)
    await expect(page.locator("#messages")).to_contain_text("fetch_output")
    await page.click("#connect")
    await expect(page.locator("#state")).to_have_attribute("data-state", "idle", timeout=5000)
    assert problems == []
