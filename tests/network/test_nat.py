"""A server behind a NAT, as most clouds and containers have it: without the address that is
advertised its clients would be told one that leads nowhere."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser import browsing, find_browser
from tests.e2e.stack import RAYRTC, ROOT
from tests.network.nat import OUTSIDE, Nat, behind_nat, unavailable

UDP, TCP = 21010, 21000
CALLS = 5

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("nat"),
    pytest.mark.skipif(bool(unavailable()), reason=f"NOT TESTED, ICE over a NAT: {unavailable()}"),
]


@pytest.fixture(scope="module")
def nat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nat]:
    """A running server: one worker with the port that is forwarded."""
    log = tmp_path_factory.mktemp("nat") / "log"
    settings = {
        "RAYRTC_ADVERTISED_HOSTS": OUTSIDE,
        "RAYRTC_UDP_PORTS": str(UDP),
        "RAYRTC_METRICS_PORT": "21001",
        "PYTHONPATH": str(ROOT),
    }
    with behind_nat(UDP, TCP) as nat, log.open("wb") as output:
        command = [*RAYRTC, "dev", "examples.echo:stream", "--workers", "1"]
        process = subprocess.Popen(
            [*nat.inside(nat.server), *command, "--host", "0.0.0.0", "--port", str(TCP)],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_ready(nat, process, log)
            yield nat
        finally:
            process.terminate()
            process.wait(45)
            print(log.read_text(errors="replace")[-3000:])


def test_every_client_connects_to_the_advertised_address(nat: Nat) -> None:
    calling = {
        kind: subprocess.Popen(
            [
                *nat.inside(nat.client),
                *(sys.executable, "-m", "tests.network.caller"),
                *(f"http://{OUTSIDE}:{TCP}", kind, str(CALLS)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for kind in ("aiortc", "libwebrtc")
    }
    try:
        for kind, process in calling.items():
            output, errors = process.communicate(timeout=CALLS * 20)
            calls = [json.loads(line) for line in output.splitlines()]
            assert len(calls) == CALLS, errors.decode(errors="replace")
            for call in calls:
                assert "error" not in call, (kind, call)
                assert call["candidates"] == [["host", OUTSIDE, UDP]]
                # 0.0.0.0 is the session's own, which nobody uses
                assert set(call["address"]) <= {OUTSIDE, "0.0.0.0"}
                assert abs(call["hertz"] - 440) < 10
    finally:
        for process in calling.values():
            process.kill()
            process.wait()


async def test_a_page_connects_to_the_advertised_address(nat: Nat, tmp_path: Path) -> None:
    launcher = tmp_path / "chromium"
    launcher.write_text(
        f'#!/bin/sh\nexec {" ".join(nat.inside(nat.client))} {find_browser()} "$@"\n'
    )
    launcher.chmod(0o755)
    url = f"http://{OUTSIDE}:{TCP}"
    secure = f"--unsafely-treat-insecure-origin-as-secure={url}"
    async with browsing(executable=str(launcher), more=[secure]) as browser:
        page = await browser.new_page()
        await page.goto(url)
        await page.click("#connect")
        state = page.locator("#state")
        await expect(state).to_have_attribute("data-state", "connected", timeout=15000)
        received = page.locator("[data-stat=packets-in]")
        await expect(received).to_have_text(re.compile(r"[1-9]\d"), timeout=15000)


def _wait_ready(nat: Nat, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the server is reached from the client's side."""
    deadline = time.monotonic() + 90
    probe = f"import httpx; httpx.get('http://{OUTSIDE}:{TCP}/readyz').raise_for_status()"
    command = [*nat.inside(nat.client), sys.executable, "-c", probe]
    while subprocess.run(command, capture_output=True, timeout=30, check=False).returncode:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.5)
