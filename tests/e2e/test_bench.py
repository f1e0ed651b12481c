"""`rayrtc bench` against a running deployment: what an operator reads, and that nothing stays."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stack import RAYRTC, ROOT, Stack, wait_until
from tests.e2e.test_limits import settled

PATIENT = ("--loss", "100", "--round-trip", "60000", "--setup", "60000")
"""The machine that runs the tests may be as busy as it likes."""


def bench(output: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, begun."""
    return subprocess.Popen(
        [*RAYRTC, "bench", *arguments, "--output", str(output)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has them, and what they start, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def connected(stack: Stack) -> float:
    """Calls with media: one that was given up while it connects holds its slot for longer."""
    text = httpx.get(f"http://127.0.0.1:{stack.metrics_port}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rayrtc_worker_connections" and sample.labels["state"] == "connected"
    )


async def test_a_limit_is_found_and_a_silent_handler_is_told_of(
    stack: Stack, tmp_path: Path
) -> None:
    url = stack.replicas["a"]
    limited = bench(
        tmp_path / "limited",
        *(url, "--path", "limited", "--step", "4", "--hold", "4", "--processes", "2", "--json"),
        *PATIENT,
    )
    silent = bench(
        tmp_path / "silent",
        *(url, "--path", "/numbered", "--transport", "websocket", "--max", "1", "--hold", "3"),
        *PATIENT,
    )
    told, progress = limited.communicate(timeout=130)
    assert limited.returncode == 0, progress
    report = json.loads(told)
    assert report["ended"] == "limit reached: slots, by the stream's concurrency_limit"
    assert (report["capacity"], report["lower_bound"], report["echo"]) == (3, False, True)
    (step,) = report["steps"]
    quality = step["quality"]
    assert (quality["wanted"], quality["calls"]) == (4, 3)
    assert 0 < quality["answer_p50"] < quality["media_p50"]
    assert 0 < quality["round_trip_p50"] < 60
    assert quality["lost_up"] is not None
    assert json.loads((tmp_path / "limited" / "capacity.json").read_text()) == report
    assert (tmp_path / "limited" / "capacity.png").read_bytes().startswith(b"\x89PNG")
    told, progress = silent.communicate(timeout=130)
    assert silent.returncode == 0, progress
    assert "the handler sends nothing back" in told
    assert "capacity: at least 1 calls (--max reached)" in told
    await settled(stack, 10)


async def test_its_calls_end_with_the_command(stack: Stack, tmp_path: Path) -> None:
    url = stack.replicas["b"]
    signals = (signal.SIGINT, signal.SIGKILL)
    commands = [bench(tmp_path, url, "--step", "2", "--hold", "60", *PATIENT) for _ in signals]
    try:
        await asyncio.to_thread(wait_until, lambda: connected(stack) == 4, 100, "their calls")
        processes = [p for c in commands for p in psutil.Process(c.pid).children(recursive=True)]
        assert len(processes) >= 2
        for command, sig in zip(commands, signals, strict=True):
            command.send_signal(sig)
        assert [command.wait(20) for command in commands] == [130, -signal.SIGKILL]
        await settled(stack, 10)
        gone, _ = psutil.wait_procs(processes, 10)
        assert len(gone) == len(processes)
    finally:
        for command in commands:
            command.kill()
            command.communicate()


async def test_a_first_call_that_fails_is_one_line(stack: Stack, tmp_path: Path) -> None:
    for arguments, text in (
        (("--path", "nothing"), "there is no stream at"),
        (("--path", "effect"), "does not take calls of sound over webrtc: unsupported_track"),
    ):
        done = bench(tmp_path, stack.replicas["a"], *arguments)
        _, told = done.communicate(timeout=60)
        assert done.returncode == 1
        assert text in told.splitlines()[-1]
        assert "Traceback" not in told
