"""`rayrtc dev` starts again what dies, and loads changed code. If not, one crash ends the work."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.dev_session import DevSession, alive, command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

APP = """
from fastapi import FastAPI
from examples.echo import EchoHandler
from rayrtc import Stream

app = FastAPI()
Stream(EchoHandler(), modality="audio").mount(app)

@app.get("/generation")
def generation() -> int:
    return 1
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevSession]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "reloaded.py").write_text(APP)
    session = DevSession(tmp_path_factory.mktemp("tmp"), "reloaded:app", "--reload", path=folder)
    try:
        session.read_until("Ctrl-C stops everything", 90)
        session.observe()
        yield session
        session.process.terminate()
        session.wait_gone()
    finally:
        session.close()


def eventually(session: DevSession, condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass  # not up again
        assert time.monotonic() < deadline, session.output
        session.read(0.1)


def test_changed_code_is_loaded(session: DevSession) -> None:
    url = f"http://127.0.0.1:{session.port}/generation"
    assert httpx.get(url).json() == 1
    source = session.path / "reloaded.py"
    source.write_text("this is no Python")
    session.read_until("waiting for a change", 30)
    source.write_text(APP.replace("return 1", "return 2"))
    eventually(session, lambda: httpx.get(url).json() == 2)
    session.read_until("workers run the new code", 60)
    session.observe()


@pytest.mark.parametrize("part", ["valkey-server", "control-plane", "rayrtc.cli workers"])
def test_what_dies_comes_back(session: DevSession, part: str) -> None:
    session.observe()
    victim = session.process_of(part)
    name = {"valkey-server": "Redis", "control-plane": "control plane"}.get(part, "workers")
    seen = len(session.output)
    victim.kill()
    eventually(session, lambda: name + ": it ended with signal SIGKILL" in session.output[seen:])
    # not what an earlier test's change of the code may still bring: "✓ workers run the new code"
    eventually(session, lambda: f"✓ {name:<14} " in session.output[seen:])
    ready = f"http://127.0.0.1:{session.port}/readyz"
    eventually(session, lambda: httpx.get(ready).status_code == 200)
    assert not alive(victim)
    session.observe()
    raylets = [p for p in session.tree if "raylet_socket_name" in command(p)]
    assert len(raylets) == 1, "a Ray without its driver was left behind"


def test_a_handler_file_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    (folder / "broken.py").write_text("from rayrtc import nothing\n")
    session = DevSession(tmp_path / "tmp", "broken:app", path=folder)
    try:
        eventually(session, lambda: session.process.poll() is not None)
        session.read(0.5)
        said = session.output
        assert session.process.returncode == 1
        assert said.count("broken:app cannot be loaded: ImportError") == 1
        assert 'broken.py", line 1' in said
        assert list((tmp_path / "tmp").iterdir()) == []
    finally:
        session.close()
