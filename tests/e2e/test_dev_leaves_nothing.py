"""`rayrtc dev` ends everything, whatever ends it. Failing, users find a Ray running days later."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dev_session import DevSession

START_TIMEOUT = 90.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[DevSession]:
    session = DevSession(tmp_path)
    try:
        session.read_until("Ctrl-C stops everything", START_TIMEOUT)
        session.observe()
        yield session
    finally:
        session.close()


def test_ctrl_c_in_the_terminal(session: DevSession) -> None:
    before = len(session.output)
    os.write(session.master, b"\x03")
    session.wait_gone()
    assert session.process.returncode == 0
    said = session.output[before:]
    assert "Stopped." in said
    assert "Traceback" not in said
    assert "rror" not in said


def test_sigterm(session: DevSession) -> None:
    session.process.terminate()
    session.wait_gone()
    assert session.process.returncode == 0


def test_sigkill_of_the_command(session: DevSession) -> None:
    session.process.kill()
    session.wait_gone()


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_sigkill_of_the_guardian(session: DevSession) -> None:
    session.process_of("rayrtc.guardian").send_signal(signal.SIGKILL)
    session.wait_gone()
    assert session.process.returncode == 1
    assert "the guardian process was killed" in session.output
