"""A call that was lost comes back by itself, and one that moved to another network goes on."""

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Page, expect

from tests.browser import browsing
from tests.clients import AiortcClient
from tests.e2e.sse import Event, Reader
from tests.e2e.stack import Stack
from tests.e2e.test_calls import post

WATCHED = """window.EventSource = class extends EventSource {
  constructor(...options) {
    super(...options);
    this.addEventListener("output", (event) => ids.push([event.lastEventId, event.data]));
  }
}; window.ids = [];"""
DOCS = Path(__file__).parents[2] / "docs"


def position(entry_id: str) -> tuple[int, int]:
    session, _, number = entry_id.partition("-")
    return int(session), int(number)


def assert_nothing_is_missing(ids: list[str], sessions: int) -> None:
    """Each number of each session once, from 1 on."""
    positions = [position(entry_id) for entry_id in ids]
    by_session: dict[int, list[int]] = {}
    for session, number in positions:
        by_session.setdefault(session, []).append(number)
    assert positions == sorted(positions)
    assert len(by_session) == sessions
    for numbers in by_session.values():
        assert numbers == list(range(1, len(numbers) + 1))


async def packets(page: Page) -> int:
    text = await page.locator("[data-stat=packets-in]").text_content()
    return int(re.sub(r"\D", "", text or "") or 0)


async def test_the_page_calls_again_when_its_worker_dies(stack: Stack, page_url: str) -> None:
    """Nobody clicks: sound is back, as loud as it was set, and the outputs go on."""
    async with browsing() as chromium:
        page = await chromium.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.add_init_script(WATCHED)
        await page.goto(page_url)
        await page.click("#connect")
        state = page.locator("#state")
        await expect(state).to_have_attribute("data-state", "connected", timeout=15000)
        await page.locator("#inputs input[type=number]").first.fill("0.25")
        await expect(page.locator("#outputs")).to_contain_text('"volume":0.25', timeout=10000)
        status = await asyncio.to_thread(stack.status)
        (call,) = status["connections"]
        (pid,) = [w["pid"] for w in status["workers"] if w["worker_id"] == call["worker_id"]]

        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        await expect(state).to_have_attribute("data-state", "reconnecting", timeout=15000)
        await expect(state).to_have_attribute("data-state", "connected", timeout=20000)
        print(f"connected again after {time.monotonic() - killed:.2f} s")
        status = await asyncio.to_thread(stack.status)
        (again,) = status["connections"]
        assert again["connection_id"] == call["connection_id"]
        assert again["worker_id"] != call["worker_id"]
        await expect(page.locator("#messages")).to_contain_text("started anew")
        begin = await packets(page)
        async with asyncio.timeout(10):
            while await packets(page) < begin + 100 or not any(
                position(entry_id)[0] == again["session"]
                for entry_id, _ in await page.evaluate("ids")
            ):
                await asyncio.sleep(0.2)
        seen: list[Any] = await page.evaluate("ids")
        assert_nothing_is_missing([entry_id for entry_id, _ in seen], 2)
        first = next(data for id, data in seen if position(id)[0] == again["session"])
        assert json.loads(first)[0]["volume"] == 0.25, "the new handler has it from its beginning"
        assert await page.locator("#outputs [data-kind=gap]").count() == 0
        assert problems == []


async def test_a_client_on_another_network_takes_its_call_over(stack: Stack) -> None:
    """The one place of the stream stays its own; a reader sees one go on as the other."""
    url = stack.replicas["a"] + "/single"
    most = 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            now = await asyncio.to_thread(
                stack.metric, "b", "rayrtc_stream_connections", stream="single"
            )
            most = max(most, now)
            await asyncio.sleep(0.05)

    old = AiortcClient(url)
    await old.connect()
    reader = Reader(url + "/outputs", old.webrtc_id)
    await reader.opened.wait()
    body = {"webrtc_id": old.webrtc_id, "inputs": [100_000, 0.01]}
    assert (await post(url + "/input_hook", body))[0] == 200
    await reader.wait_for(20, "output")
    watching = asyncio.create_task(watch())

    new = AiortcClient(stack.replicas["b"] + "/single", webrtc_id=old.webrtc_id)
    await new.connect(token=old.token)
    assert (await old.wait_for_message("update_connection"))["data"] == "closed"
    await old.wait_for_state("closed")
    other = await post(url + "/webrtc/offer", await AiortcClient(url).create_offer())
    assert other[0] == 429
    begin = len(reader.events)
    await reader.wait_for(begin + 20, "output")
    back = Reader(url + "/outputs", new.webrtc_id, last_event_id=reader.events[9].id)
    await back.wait_for(begin + 20, "output")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert most == 1
    for events in (reader.events, back.events):
        assert {event.name for event in events} == {"output"}

    def numbered(events: list[Event]) -> list[str]:
        return [event.id for event in events[: begin + 20]]

    assert_nothing_is_missing(numbered(reader.events), 2)
    common = min(len(reader.events) - 10, len(back.events))
    assert reader.events[10 : 10 + common] == back.events[:common]
    metrics = f"http://127.0.0.1:{stack.metrics_port}/metrics"
    ended = (await asyncio.to_thread(httpx.get, metrics)).text
    assert re.search(r'ended_total\{.*reason="replaced".*stream="single".*\} 1\.0', ended)
    await asyncio.gather(old.close(), new.close())
    await asyncio.gather(reader.close(), back.close())


async def test_the_documented_page_works(stack: Stack) -> None:
    """An application's own page needs no more than the ten lines that the documentation shows."""
    text = (DOCS / "reconnect.md").read_text()
    html = text.partition("```html\n")[2].partition("```")[0].replace("/rayrtc", "/volume/rayrtc")
    async with browsing() as chromium:
        page = await chromium.new_page()
        said: list[str] = []
        page.on("console", lambda m: said.append(m.text) if m.type == "log" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(stack.replicas["a"] + "/healthz")
        await page.set_content(html)
        await page.click("#go")
        await expect(page.locator("#go")).to_have_text("connected", timeout=15000)
        async with asyncio.timeout(10):
            while len(said) < 2:
                await asyncio.sleep(0.05)
        assert [json.loads(line)[0]["volume"] for line in said] == [0.5] * len(said)
        assert await page.evaluate("reply.srcObject.getTracks()[0].kind") == "audio"
