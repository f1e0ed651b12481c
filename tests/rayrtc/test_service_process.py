"""A service that dies is started again; one that cannot run ends everything with the reason."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rayrtc import service_process
from rayrtc.service_process import ServiceFailed, ServiceProcess, inherited

READY = 'print(\'{"event": "ready", "workers": 2}\', flush=True)'


def service(code: str, **options: Any) -> ServiceProcess:
    defaults: dict[str, Any] = {"start_timeout": 10, "stop_timeout": 5}
    return ServiceProcess(
        "it", [sys.executable, "-c", code], inherited(), **{**defaults, **options}
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_process, "BACKOFF", 0.01)


async def test_it_is_ready_when_it_says_so_and_stops_when_told() -> None:
    one = service(f"import time; {READY}; time.sleep(100)")
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    assert one.facts == {"workers": 2}
    await asyncio.wait_for(one.stop(asyncio.Event()), 5)
    await asyncio.wait_for(keeping, 5)
    assert one.pid is None


async def test_it_is_started_again_and_given_up_when_it_dies_every_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); {READY}; import time; time.sleep(0.3); exit(3)"
    cleared: list[int] = []
    one = service(code, after_end=lambda: cleared.append(1))
    with pytest.raises(ServiceFailed, match=r"it died 5 times in a row: .* exit status 3"):
        await asyncio.wait_for(one.keep(), 30)
    assert len(starts.read_text()) == len(cleared) == 5
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in told].count("restart") == 4


async def test_a_first_start_that_fails_tells_the_services_own_reason() -> None:
    one = service('print(\'{"event": "error", "text": "no such module"}\'); exit(2)')
    with pytest.raises(ServiceFailed, match="it could not start: no such module"):
        await asyncio.wait_for(one.keep(), 10)


async def test_one_that_is_never_ready_is_killed_at_its_deadline() -> None:
    one = service("import time; time.sleep(100)", start_timeout=0.5)
    with pytest.raises(ServiceFailed, match=r"not ready after 0.5 s"):
        await asyncio.wait_for(one.keep(), 10)
    assert one.pid is None


async def test_readiness_can_be_asked_for() -> None:
    answers = [False, False, True]

    async def is_ready() -> bool:
        return answers.pop(0)

    one = service("import time; time.sleep(100)", is_ready=is_ready)
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    assert answers == []
    await one.stop(asyncio.Event())
    await keeping


@pytest.mark.parametrize("hurried", [True, False])
async def test_one_that_ignores_sigterm_is_killed(hurried: bool) -> None:
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); {READY}; time.sleep(100)"
    one = service(code, stop_timeout=60 if hurried else 0.5)
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    at_once = asyncio.Event()
    if hurried:
        at_once.set()
    await asyncio.wait_for(one.stop(at_once), 5)
    await asyncio.wait_for(keeping, 5)


async def test_new_code_that_cannot_start_waits_for_the_next_change(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = tmp_path / "code.py"
    code.write_text(f"import time; {READY}; time.sleep(100)")
    one = service(f"exec(open({str(code)!r}).read())", await_change=True)
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    code.write_text("syntax error")
    one.reload(signal.SIGTERM)
    seen = ""
    async with asyncio.timeout(10):
        while "waiting for a change" not in seen:
            await asyncio.sleep(0.05)
            seen += capsys.readouterr().out
    code.write_text(f"import time; {READY}; time.sleep(100)")
    one.reload(signal.SIGTERM)
    async with asyncio.timeout(10):
        while '"step"' not in capsys.readouterr().out:
            await asyncio.sleep(0.05)
    assert not keeping.done()
    await one.stop(asyncio.Event())
    await keeping


async def test_one_that_is_killed_before_it_was_ready_again_does_not_wait_for_a_change(
    tmp_path: Path,
) -> None:
    """The machine ran out of memory, say: the code is not at fault."""
    code = tmp_path / "code.py"
    code.write_text(f"import time; {READY}; time.sleep(100)")
    one = service(f"exec(open({str(code)!r}).read())", await_change=True)
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    code.write_text("import time; time.sleep(100)")
    first = one.pid
    one.reload(signal.SIGTERM)
    async with asyncio.timeout(10):
        while (second := one.pid) in (None, first):
            await asyncio.sleep(0.01)
        one.send(signal.SIGKILL)
        while one.pid in (None, second):
            await asyncio.sleep(0.01)
    await one.stop(asyncio.Event())
    await keeping


async def test_what_it_prints_besides_events_is_passed_on(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    long = 3 * service_process.LINE_MAX
    prints = f"print('x' * {long}); print('a print of the handler')"
    code = f"import time; {prints}; {READY}; time.sleep(100)"
    one = service(code)
    keeping = asyncio.create_task(one.keep())
    await asyncio.wait_for(one.first_ready.wait(), 10)
    await one.stop(asyncio.Event())
    await keeping
    err = capfdbinary.readouterr().err
    assert b"a print of the handler\n" in err
    assert err.count(b"x") == long
