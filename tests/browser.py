"""The browser of the tests: Chromium or Chrome, with a camera and a microphone that are made up."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_browser() -> str:
    """Its path; `deploy/setup/chromium.sh` makes sure that there is one."""
    return next(filter(None, map(shutil.which, NAMES)), str(MACOS))


@asynccontextmanager
async def browsing(
    microphone: str | None = None,
    camera: Path | None = None,
    fps: int = 20,
    trusted: str | None = None,
) -> AsyncIterator[Browser]:
    """A browser that asks nobody for permission.

    Args:
        microphone: path of the WAV file that it plays, `%noloop` behind it for once; else beeps.
        camera: path of the Y4M file that it shows; else a test picture, `fps` times a second.
        trusted: URL of another host that gets them over plain HTTP.
    """
    options = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--use-fake-device-for-media-stream=fps={fps}",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ]
    if microphone is not None:
        options.append(f"--use-file-for-fake-audio-capture={microphone}")
    if camera is not None:
        options.append(f"--use-file-for-fake-video-capture={camera}")
    if trusted is not None:
        options.append(f"--unsafely-treat-insecure-origin-as-secure={trusted}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=options)
        try:
            yield browser
        finally:
            # a page that is left ends its calls; a browser that is closed does not say goodbye
            for page in [page for context in browser.contexts for page in context.pages]:
                await page.goto("about:blank")
            await browser.close()
