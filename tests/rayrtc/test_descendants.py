"""Nothing that a service starts outlives `rayrtc dev`, not even what daemonises itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

LINUX = sys.platform == "linux"

SWEEP = """
import os, subprocess, sys, time
from rayrtc.descendants import Descendants, adopt_orphans
adopt_orphans()
# A child that starts a process in a session of its own and ends: a daemon.
child = (
    "import subprocess;"
    "print(subprocess.Popen(['sleep', '100'], start_new_session=True).pid, flush=True)"
)
started = subprocess.Popen([sys.executable, "-c", child])
kept = subprocess.Popen(["sleep", "100"])
started.wait()
descendants = Descendants("test")
assert len(descendants.find()) == 2, descendants.find()
assert descendants.kill(5, keep=frozenset({kept.pid})) == []
assert kept.poll() is None
assert descendants.kill(5) == []
assert descendants.find() == []
print("swept", flush=True)
"""


@pytest.mark.skipif(not LINUX, reason="orphans are adopted on Linux only")
def test_a_daemon_of_a_dead_child_is_found_and_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP], capture_output=True, text=True, timeout=30, check=False
    )
    assert "swept" in done.stdout, done.stderr
    daemon = int(done.stdout.split()[0])
    assert not psutil.pid_exists(daemon)


@pytest.mark.skipif(not LINUX, reason="PR_SET_PDEATHSIG")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"""
import pathlib, signal, subprocess, time
from rayrtc.descendants import die_with_parent
child = subprocess.Popen(["sleep", "100"], preexec_fn=die_with_parent(signal.SIGKILL))
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 10
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = psutil.Process(int(pid_file.read_text()))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(5)
    child.wait(5)
