"""The OpenAPI document against the real thing: no 500, no undocumented status, no other shape."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from control_plane import candidates, endpoints
from rayrtc.cluster.models import EndReason
from tests.control_plane.conftest import SDP, Inputs, Replica, Workers, make_stream

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CONFIG = """
[checks.not_a_server_error]
# the contract's answers when there is no worker and when no output comes in time
expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
[checks.positive_data_acceptance]
# a string is not a session description, a candidate or an entity tag because the schema says that
# it is a string
expected-statuses = ["2xx", 400, 404, 409, 410, 412, 429, 503, 504]
"""


async def run(url: str, directory: Path, *options: str, **environment: str) -> None:
    """Run schemathesis against a replica; fails with its report."""
    (directory / "schemathesis.toml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/openapi.json",
        "--no-color",
        "--seed=1",
        "--max-examples=30",
        "--request-timeout=15",
        "--generation-database=none",
        *options,
        cwd=directory,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("ids", ["any", "known"])
async def test_every_answer_is_as_documented(
    replica: Replica,
    workers: Workers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ids: str,
) -> None:
    """With ids that schemathesis makes up, and with those of a live and of an ended connection."""
    monkeypatch.setattr(candidates, "CANDIDATE_WAIT", 0.1)
    monkeypatch.setattr(endpoints, "EVENTS_WAIT", 0.1)
    (worker,) = await workers(1)
    api = await replica(make_stream(inputs=Inputs), record_ttl=300.0)
    await api.offer("live")
    await api.offer("ended")
    offer = SDP.replace("sendrecv", "sendonly")
    async with api.session.post(
        api.url + "/whip", data=offer, headers={"Content-Type": "application/sdp"}
    ) as response:
        session = response.headers["Location"].removeprefix("/whip/")
    await worker.put("ended", '["x", 1]', "[null]")
    await worker.close("ended", EndReason.CLIENT_CLOSED)
    if ids == "any":
        await run(api.url, tmp_path)
    else:
        # the hooks repair wrong ids, so that some requests that were to be wrong are right
        await run(
            api.url,
            tmp_path,
            "--exclude-checks=negative_data_rejection",
            WHIP_SESSION=session,
        )
