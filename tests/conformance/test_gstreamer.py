"""GStreamer, a stack of its own with an RSA certificate, publishes by WHIP and plays by WHEP."""

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance import effects
from tests.conformance.call import TIMEOUT, events, request
from tests.e2e.sse import Reader

CLIENT = Path(__file__).with_name("gstreamer_client.py")
FREQUENCY = 440
RATE = 48000


def python() -> str:
    """The Python that has GStreamer's bindings; the tests' own has none."""
    check = "import gi; gi.require_version('GstWebRTC', '1.0')"
    for path in ("/usr/bin/python3", shutil.which("python3")):
        if path and not subprocess.run([path, "-c", check], capture_output=True).returncode:
            return path
    pytest.fail("GStreamer's Python bindings are missing: make test-install")


class GStreamer:
    """The client's process and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind with these fields; AssertionError when the client ends."""
        said = []
        async with asyncio.timeout(TIMEOUT):
            while line := await self.process.stdout.readline():
                said.append(json.loads(line))
                if said[-1]["event"] == event and fields.items() <= said[-1].items():
                    return said[-1]
        raise AssertionError(f"no {event} {fields}: {said}")

    async def leave(self) -> None:
        """Have it delete its session."""
        self.process.stdin.close()
        await self.until("deleted", status=200)


@asynccontextmanager
async def gstreamer(*arguments: str) -> AsyncIterator[GStreamer]:
    process = await asyncio.create_subprocess_exec(
        python(),
        str(CLIENT),
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield GStreamer(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def setup(answer: str) -> set[str]:
    return {line for line in answer.split("\r\n") if line.startswith("a=setup:")}


async def test_a_publisher_of_sound(base_url: str) -> None:
    """It connects, the handler hears its tone, and its DELETE ends the connection"""
    async with gstreamer("publish", f"{base_url}/audio-send/whip", "audio") as client:
        created = await client.until("created")
        assert setup(created["answer"]) == {"a=setup:passive"}
        await client.until("state", state="connected")
        id = created["session"].rpartition("/")[2]
        reader = Reader(f"{base_url}/audio-send/outputs", id)
        await reader.wait_for(4, "output")
        await reader.close()
        heard = [json.loads(event.data)[0] for event in reader.outputs("output")]
        assert abs(heard[-1]["frequency"] - FREQUENCY) < 6, heard
        assert heard[-1]["level"] > 0.1, heard
        await client.leave()
    last = (await events(f"{base_url}/audio-send/outputs", id))[-1]
    assert (last.name, json.loads(last.data)) == ("end", {"reason": "client_closed"})


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_publisher_of_sound_and_pictures(base_url: str, codec: str) -> None:
    """A bundle of both, as OBS sends it: the handler hears and sees what is sent"""
    url = f"{base_url}/audio-video-send"
    async with gstreamer("publish", f"{url}/whip", "audio", codec) as client:
        id = (await client.until("created"))["session"].rpartition("/")[2]
        await client.until("state", state="connected")
        reader = Reader(f"{url}/outputs", id)
        async with asyncio.timeout(TIMEOUT):
            kinds: dict[str, dict[str, Any]] = {}
            while len(kinds) < 2 or abs(kinds["audio"]["frequency"] - FREQUENCY) > 6:
                await asyncio.sleep(0.05)
                outputs = [json.loads(event.data)[0] for event in reader.outputs("output")]
                kinds = {output["kind"]: output for output in outputs}
        await reader.close()
        assert kinds["picture"]["brightness"] > 200, kinds
        await client.leave()


async def test_a_player(base_url: str, tmp_path: Path) -> None:
    """It hears the stream's tone; its candidates came after its offer"""
    file = tmp_path / "heard"
    async with gstreamer("play", f"{base_url}/at-once/whep", str(file)) as client:
        await client.until("created")
        trickled = await client.until("trickled")
        assert trickled["status"] == 204, trickled
        assert trickled["candidates"] > 0
        async with asyncio.timeout(TIMEOUT):
            while not file.exists() or file.stat().st_size < 3 * RATE:  # 1.5 s
                await asyncio.sleep(0.05)
        await client.leave()
    heard = np.frombuffer(file.read_bytes()[: 3 * RATE], np.int16)[-RATE:]
    assert abs(effects.frequency(heard, RATE) - effects.FREQUENCY) < 3
    assert abs(effects.level(heard) - effects.LEVEL) < 0.25 * effects.LEVEL


async def test_sound_and_pictures_for_a_stream_of_sound(base_url: str) -> None:
    """A stream that takes sound alone refuses both together, and says so"""
    async with gstreamer("publish", f"{base_url}/audio-send/whip", "audio", "vp8") as client:
        refused = await client.until("refused")
    body = json.loads(refused["text"])
    assert (refused["status"], body["meta"]["error"]) == (400, "unsupported_track")


async def test_sound_and_pictures_with_extra_tracks(base_url: str) -> None:
    """With `allow_extra_tracks` the pictures are not taken and the sound is"""
    url = f"{base_url}/extra-tracks"
    async with gstreamer("publish", f"{url}/whip", "audio", "vp8") as client:
        created = await client.until("created")
        directions = [line for line in created["answer"].split() if line in DIRECTIONS]
        assert directions == ["a=recvonly", "a=inactive"]
        await client.until("state", state="connected")
        id = created["session"].rpartition("/")[2]
        status, latest = await request(
            "GET", f"{url}/outputs/latest", params={"webrtc_id": id, "timeout": "10"}
        )
        assert (status, latest["args"][0]["kind"]) == (200, "audio")
        await client.leave()


DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
