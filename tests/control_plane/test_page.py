"""The page in Chromium against a small server: its form, its errors and a call with a real peer.

The server answers what each test tells it to: the page's side of the contract is seen alone.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from playwright.async_api import Page, expect
from pydantic import BaseModel, Field

from rayrtc.cluster.models import EndReason
from tests.browser import browsing

STATIC = Path(__file__).parents[2] / "control_plane" / "static"
POLICY = "default-src 'self'; media-src 'self' blob:"


class Voice(StrEnum):
    """Who speaks."""

    LOW = "low"
    HIGH = "high"


class Inputs(BaseModel):
    """One field of each kind that the form knows."""

    volume: float = Field(1.0, ge=0, le=2, title="Volume", description="1 leaves it as it is.")
    turns: int = Field(3, ge=1)
    seed: int | None = None
    voice: Voice = Voice.LOW
    quiet: bool = False
    loud: bool | None = None
    greeting: str = Field("Hello", max_length=40)
    prompt: str = Field("You are kind.", max_length=2000, title="System prompt")
    words: list[str] = ["stop"]
    token: int = Field(default_factory=lambda: 7)


class Server:
    """The routes of one stream. `offer` and `hook` are what a test makes of them."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {
            "name": "echo",
            "title": "Echo </script>",
            "subtitle": None,
            "icon": None,
            "modality": "audio",
            "mode": "send-receive",
            "prefix": "",
            "inputs_schema": Inputs.model_json_schema(),
            "track_constraints": None,
            "rtp_params": None,
        }
        self.offer: Callable[[dict[str, Any]], Awaitable[Response]] = self.answer
        self.offers: list[tuple[str, str | None]] = []  # id and token of each
        self.hook: Callable[[dict[str, Any]], Response] = lambda body: success()
        self.inputs: list[dict[str, Any]] = []
        self.cursors: list[str | None] = []
        self.events: list[str] = []  # one answer of /outputs each
        self.outage = False  # of the next /outputs
        self.peer: RTCPeerConnection | None = None
        self.peers: list[RTCPeerConnection] = []
        self.channel: asyncio.Future[Any] = asyncio.Future()
        self.url = ""

    def app(self) -> FastAPI:
        app = FastAPI()
        app.mount("/static", StaticFiles(directory=STATIC))
        app.get("/")(self.page)
        app.get("/rtc-configuration")(success)
        app.post("/webrtc/offer")(self.signal)
        app.post("/input_hook")(self.take_inputs)
        app.get("/outputs")(self.outputs)
        return app

    def page(self) -> HTMLResponse:
        config = json.dumps(self.config).replace("<", "\\u003c")
        html = (STATIC / "index.html").read_text().replace("__STREAM_CONFIG__", config)
        return HTMLResponse(html, headers={"Content-Security-Policy": POLICY})

    async def signal(self, request: Request) -> Response:
        body = await request.json()
        if body["type"] == "offer":
            self.offers.append((body["webrtc_id"], request.headers.get("resume-token")))
            return await self.offer(body)
        candidate = body["candidate"]
        if candidate is not None and self.peer is not None:
            parsed = candidate_from_sdp(candidate["candidate"].removeprefix("candidate:"))
            parsed.sdpMid = candidate["sdpMid"]
            await self.peer.addIceCandidate(parsed)
        return success()

    async def answer(self, body: dict[str, Any]) -> Response:
        """A peer that plays back what it hears."""
        self.peer = peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peers.append(peer)
        self.channel = asyncio.Future()
        peer.on("track", peer.addTrack)
        peer.on("datachannel", self.channel.set_result)
        await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        answer = {"sdp": peer.localDescription.sdp, "type": "answer"}
        return JSONResponse(answer, headers={"Resume-Token": f"token {len(self.peers)}"})

    async def say(self, type: str, data: Any) -> None:
        """Send a control message once the page's channel is open."""
        async with asyncio.timeout(10):
            channel = await asyncio.shield(self.channel)
        channel.send(json.dumps({"type": type, "data": data}))

    async def take_inputs(self, request: Request) -> Response:
        body = await request.json()
        self.inputs.append(body)
        return self.hook(body)

    async def outputs(self, request: Request) -> Response:
        self.cursors.append(
            request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        )
        if self.outage:
            self.outage = False
            return Response(status_code=502)

        async def stream() -> AsyncIterator[str]:
            yield "retry: 100\n\n"
            while not self.events and not await request.is_disconnected():
                await asyncio.sleep(0.02)
            if self.events:
                yield self.events.pop(0)

        return StreamingResponse(stream(), media_type="text/event-stream")


def success() -> Response:
    return JSONResponse({"status": "success"})


def failed(status: int, error: str, headers: dict[str, str] | None = None, **meta: Any) -> Response:
    return JSONResponse({"status": "failed", "meta": {"error": error, **meta}}, status, headers)


def refuse(status: int, error: str, headers: dict[str, str] | None = None, **meta: Any) -> Any:
    async def offer(body: dict[str, Any]) -> Response:
        return failed(status, error, headers, **meta)

    return offer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    options = {"port": 0, "log_level": "warning", "lifespan": "off", "timeout_graceful_shutdown": 1}
    web = uvicorn.Server(uvicorn.Config(server.app(), **options))
    web.config.load()
    web.lifespan = web.config.lifespan_class(web.config)
    await web.startup()
    server.url = f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}/"
    serving = asyncio.create_task(web.main_loop())
    yield server
    web.should_exit = True
    await serving
    await web.shutdown()
    await asyncio.gather(*(peer.close() for peer in server.peers))


@pytest.fixture
async def page(server: Server) -> AsyncIterator[Page]:
    """A phone's page with a fake microphone. Script errors and policy violations fail the test."""
    async with browsing() as chromium:
        page = await chromium.new_page(viewport={"width": 320, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if "Policy" in m.text else None)
        yield page
        assert problems == []


def end(reason: str, id: str = "5-9") -> str:
    return f'id: {id}\nevent: end\ndata: {{"reason": "{reason}"}}\n\n'


def state(page: Page, name: str) -> Awaitable[None]:
    return expect(page.locator("#state")).to_have_attribute("data-state", name, timeout=15000)


async def above(page: Page, least: float, expression: str) -> None:
    """Wait until the expression exceeds `least` (the policy forbids the browser to poll it)."""
    async with asyncio.timeout(10):
        while await page.evaluate(expression) <= least:
            await asyncio.sleep(0.05)


def test_every_end_has_words() -> None:
    words = (STATIC / "call.js").read_text()
    assert [reason for reason in EndReason if f"\n  {reason.value}: [" not in words] == []


async def test_form_has_a_control_for_every_kind_of_input(server: Server, page: Page) -> None:
    """Each field has the control, bounds, label and default of its schema; nothing overflows."""
    await page.goto(server.url)
    await expect(page.locator("h1")).to_have_text("Echo </script>")
    volume = page.get_by_label("Volume", exact=True)
    await expect(volume).to_have_attribute("type", "number")
    await expect(volume).to_have_value("1")
    slider = page.locator("#inputs input[type=range]")
    assert await slider.evaluate("e => [e.min, e.max, e.value]") == ["0", "2", "1"]
    await slider.fill("1.5")
    await expect(volume).to_have_value("1.5")
    await expect(page.locator("#input-volume-hint")).to_have_text("1 leaves it as it is.")
    await expect(page.get_by_label("Turns")).to_have_attribute("min", "1")
    await expect(page.get_by_label("Seed")).to_have_value("")
    options = page.get_by_label("Voice").locator("option")
    assert await options.all_text_contents() == ["low", "high"]
    await expect(page.get_by_label("Quiet")).not_to_be_checked()
    loud = page.get_by_label("Loud")
    assert await loud.locator("option").all_text_contents() == ["None", "Yes", "No"]
    await expect(page.get_by_label("Greeting")).to_have_attribute("type", "text")
    assert await page.get_by_label("System prompt").evaluate("e => e.tagName") == "TEXTAREA"
    assert json.loads(await page.get_by_label("Words").input_value()) == ["stop"]
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320


async def test_limit_is_told_and_retried(server: Server, page: Page) -> None:
    """A 429 names the limit; the button waits for Retry-After, then places a new call."""
    server.offer = refuse(429, "concurrency_limit_reached", {"Retry-After": "2"}, limit=3)
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "failed")
    await expect(page.locator("#error")).to_contain_text("3 calls at a time")
    retry = page.locator("#retry")
    await expect(retry).to_be_disabled()
    await expect(retry).to_have_text("Try again in 2 s")
    await expect(retry).to_be_enabled(timeout=4000)
    server.offer = refuse(503, "no_worker_available")
    await retry.click()
    await expect(page.locator("#error")).to_contain_text("No media server is free")
    await expect(retry).to_be_enabled()


async def test_refused_microphone_is_explained(server: Server, page: Page) -> None:
    """No call is placed; the person reads what to do."""
    await page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('denied', 'NotAllowedError'); }"
    )
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "failed")
    await expect(page.locator("#error")).to_contain_text("The microphone is blocked")
    assert server.peer is None


async def test_call_from_connect_to_end(server: Server, page: Page) -> None:
    """Audio and inputs flow, an input's error is told, outputs resume, the end has its reason."""
    await page.goto(server.url)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await state(page, "connected")
    await expect(page.locator("#inputs-state")).to_contain_text("Sent at")
    sent = server.inputs[0]
    assert sent.pop("webrtc_id")
    assert sent == Inputs.model_validate(sent).model_dump(mode="json", exclude={"token"})

    await above(page, 0.3, "document.getElementById('mic-level').value")
    await above(page, 0.3, "document.getElementById('reply-level').value")
    packets = "document.querySelector('[data-stat=packets-in]').textContent"
    await above(page, 20, f"parseInt({packets}) || 0")
    await expect(page.locator("[data-stat=codec]")).to_contain_text("opus")

    error = {"loc": ["body", "turns"], "msg": "Too many turns", "type": "value_error"}
    server.hook = lambda body: JSONResponse({"detail": [error]}, 422)
    await page.get_by_label("Turns").fill("99")
    await expect(page.locator("#input-turns-error")).to_have_text("Too many turns")
    assert server.inputs[-1]["turns"] == 99
    server.hook = lambda body: success()
    await server.say("send_input", [])
    await expect(page.locator("#input-turns-error")).to_be_empty()
    await expect(page.locator("#messages")).to_contain_text("send_input")

    server.outage = True
    server.events.append('id: 5-1\nevent: output\ndata: ["first <b>", {"n": 1}]\n\n')
    await expect(page.locator("#outputs")).to_contain_text('first <b>\n{"n":1}')
    server.events.append(f"event: gap\ndata: {{}}\n\n{end('handler_error')}")
    await state(page, "failed")
    assert server.cursors == [None, "5-1", "5-1"]
    await expect(page.locator("#outputs [data-kind=gap]")).to_have_count(1)
    await expect(page.locator("#error")).to_contain_text("The program behind the stream failed")
    await expect(page.locator("#retry")).to_be_enabled()


async def test_rtp_params_are_set_on_what_the_page_sends(server: Server, page: Page) -> None:
    """They reach the sender; some that a browser refuses do not cost the call."""
    await page.add_init_script(
        "window.RTCPeerConnection = class extends RTCPeerConnection {"
        " constructor(...options) { super(...options); window.peer = this; } }"
    )
    server.config["rtp_params"] = {"encodings": [{"maxBitrate": 20_000}]}
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "connected")
    sent = await page.evaluate("window.peer.getSenders()[0].getParameters()")
    assert [encoding["maxBitrate"] for encoding in sent["encodings"]] == [20_000]
    assert sent["codecs"]
    server.config["rtp_params"] = {"encodings": []}
    await page.reload()
    await page.click("#connect")
    await state(page, "connected")
    await expect(page.locator("#messages")).to_contain_text("rtp_params")


async def test_server_ends_the_call(server: Server, page: Page) -> None:
    """`update_connection` closed ends the call without an error; a handler's error is shown."""
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "connected")
    await server.say("error", "No such voice")
    await expect(page.locator("#error")).to_contain_text("No such voice")
    await server.say("update_connection", "closed")
    await state(page, "ending")
    server.events.append(end("server_closed"))
    await state(page, "ended")
    await expect(page.locator("#notice")).to_have_text("The server closed the call.")
    await expect(page.locator("#connect")).to_have_text("Connect")
    assert await page.evaluate("document.getElementById('reply').srcObject") is None


async def test_server_closes_without_a_word(server: Server, page: Page) -> None:
    """The page does not wait for a media timeout: the closed channel ends the call."""
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "connected")
    assert server.peer is not None
    async with asyncio.timeout(10):
        await asyncio.shield(server.channel)  # the page may be connected before the server is
    await server.peer.close()
    await expect(page.locator("#notice")).to_have_text("The server ended the call.", timeout=5000)
    await state(page, "ended")


async def test_stream_without_input_model(server: Server, page: Page) -> None:
    """No form until the handler asks; then a list of arguments can be given."""
    server.config.update(inputs_schema=None, mode="receive")
    await page.goto(server.url)
    await expect(page.locator("#inputs-card")).to_be_hidden()
    await expect(page.locator("#mic-row")).to_be_hidden()
    await page.click("#connect")
    await state(page, "connected")
    await server.say("send_input", [])
    field = page.get_by_label("Inputs", exact=True).and_(page.locator("textarea"))
    await field.fill("[0.5,")
    await expect(page.locator("#input-inputs-error")).to_have_text("This is not valid JSON.")
    await field.fill('[0.5, "low"]')
    await expect(page.locator("#inputs-state")).to_contain_text("Sent at")
    assert [body["inputs"] for body in server.inputs] == [[0.5, "low"]]


async def test_lost_call_comes_back(server: Server, page: Page) -> None:
    """A dead worker costs seconds: same id, its token, its inputs, its outputs, no click."""
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "connected")
    await page.get_by_label("Turns").fill("7")
    await expect(page.locator("#inputs-state")).to_contain_text("Sent at")
    server.events.append('id: 5-1\nevent: output\ndata: ["one"]\n\n')
    await expect(page.locator("#outputs li")).to_have_count(1)
    while server.inputs[-1]["turns"] != 7:
        await asyncio.sleep(0.02)
    given = server.inputs[-1]

    server.offer = refuse(503, "no_worker_available", {"Retry-After": "1"})
    server.events.append(end("worker_lost", "5-2"))
    shown = page.locator("#state")
    await expect(shown).to_have_text("Reconnecting (try 1)…")
    await expect(page.locator("#notice")).to_contain_text(
        "stopped working. The call is being brought"
    )
    await expect(page.locator("#connect")).to_have_text("Cancel")
    await expect(shown).to_have_text("Reconnecting (try 2)…")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    server.offer = server.answer
    await state(page, "connected")
    await expect(page.locator("#notice")).to_be_hidden()
    await expect(page.locator("#error")).to_be_hidden()
    connection_id = given["webrtc_id"]
    assert server.offers[0] == (connection_id, None)
    assert set(server.offers[1:]) == {(connection_id, "token 1")}
    assert server.inputs[-1] == given
    assert server.cursors == [None, "5-1", "5-2"]
    await expect(page.locator("#messages")).to_contain_text("stopped working")
    packets = "document.querySelector('[data-stat=packets-in]').textContent"
    await above(page, 20, f"parseInt({packets}) || 0")
    await above(page, 0.3, "document.getElementById('reply-level').value")
    server.events.append('id: 8-1\nevent: output\ndata: ["two"]\n\n')
    await expect(page.locator("#outputs li")).to_have_count(2)

    await server.peers[0].close()
    await server.say("log", "the new channel")
    await expect(page.locator("#messages")).to_contain_text("the new channel")
    await state(page, "connected")


async def test_what_was_meant_is_not_undone(server: Server, page: Page) -> None:
    """No end that somebody wanted, and no refusal, is answered with another call."""
    await page.goto(server.url)
    calls = 0
    for reason in ("replaced", "time_limit", "handler_error", "refused"):
        await page.click("#connect")
        await state(page, "connected")
        server.events.append(end(reason))
        await expect(page.locator("#state")).to_have_attribute("data-state", re.compile("ed$"))
        await expect(page.locator("#connect")).to_have_text("Connect")
        calls += 1
    await page.click("#connect")
    await state(page, "connected")
    calls += 1
    server.offer = refuse(429, "concurrency_limit_reached", {"Retry-After": "2"}, limit=1)
    server.events.append(end("worker_stopped"))
    await state(page, "failed")
    await expect(page.locator("#error")).to_contain_text("takes one call at a time")
    await expect(page.locator("#notice")).to_contain_text("The call did not come back.")
    await expect(page.locator("#retry")).to_be_disabled()
    assert len(server.offers) == calls + 1
    assert len({connection_id for connection_id, _ in server.offers}) == calls


async def test_person_ends_the_tries(server: Server, page: Page) -> None:
    """The button works by keyboard; nothing is tried after it. A network that is back hastens."""
    await page.goto(server.url)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await state(page, "connected")
    server.offer = refuse(503, "no_worker_available")
    server.events.append(end("out_of_memory"))
    await expect(page.locator("#state")).to_have_text("Reconnecting (try 4)…", timeout=15000)
    tried = len(server.offers)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.locator("#state")).to_have_text("Reconnecting (try 5)…", timeout=1500)
    assert len(server.offers) == tried + 1
    await page.keyboard.press("Enter")
    await state(page, "idle")
    await expect(page.locator("#connect")).to_have_text("Connect")
    server.offer = server.answer
    await page.evaluate("dispatchEvent(new Event('online'))")
    await asyncio.sleep(0.3)
    assert len(server.offers) == tried + 1


async def test_lost_network_is_noticed_and_what_passes_is_left_alone(
    server: Server, page: Page
) -> None:
    """A short gap costs nothing; after a longer one the call is taken over, the old one closed."""
    await page.add_init_script(
        "window.peers = []; window.RTCPeerConnection = class extends RTCPeerConnection {"
        " constructor(...options) { super(...options); peers.push(this); } };"
        "window.turn = (state) => {"
        " Object.defineProperty(peers[0], 'connectionState', {value: state, configurable: true});"
        " peers[0].dispatchEvent(new Event('connectionstatechange')); }"
    )
    await page.goto(server.url)
    await page.click("#connect")
    await state(page, "connected")
    await page.evaluate("turn('disconnected')")
    await state(page, "interrupted")
    await page.evaluate("turn('connected')")
    await state(page, "connected")
    await page.evaluate("turn('failed'); turn('connected')")  # before the first try
    await state(page, "connected")
    assert len(server.offers) == 1
    await page.evaluate("turn('failed')")
    await state(page, "reconnecting")
    assert await page.evaluate("peers[0].signalingState") == "stable"
    await state(page, "connected")
    assert [token for _, token in server.offers] == [None, "token 1"]
    assert await page.evaluate("peers.map((peer) => peer.signalingState)") == ["closed", "stable"]
