"""`rayrtc dev`: everything on one machine. Shows what the guardian does and hands it signals."""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.status import Status
from watchfiles import PythonFilter, awatch

from rayrtc import events
from rayrtc.descendants import Descendants, adopt_orphans, die_with_parent
from rayrtc.embedded_redis import find_server
from rayrtc.free_port import free_port
from rayrtc.preflight import check_port, source_folder
from rayrtc.service_process import LINE_MAX, inherited, python_command
from rayrtc.settings import Settings

CHATTER = re.compile(rb"^\[[-\d: ,]+ [ID] \d+ \d+\] ")
"""What Ray's C++ core says below `warning`."""
DRAIN_TIMEOUT = 5.0
"""Seconds at most that calls go on with code that has changed."""
STOP_TIMEOUT = 45.0
"""Seconds for the guardian to end everything; it takes less than the sum of its own deadlines."""


def environment(settings: Settings) -> dict[str, str]:
    """What the guardian and the services inherit: the settings of a cluster on one machine."""
    log_format = settings.log_format
    if log_format == "auto":
        log_format = "text" if sys.stderr.isatty() else "json"
    secret = settings.cluster_secret
    changed = inherited(
        RAYRTC_HOST=settings.host,
        RAYRTC_PORT=str(settings.port),
        RAYRTC_WORKERS_MIN=str(settings.workers_min),
        RAYRTC_WORKERS_MAX=str(settings.workers_max),
        RAYRTC_SLOTS=str(settings.slots),
        RAYRTC_LOG_FORMAT=log_format,
        RAYRTC_METRICS_PORT=str(settings.metrics_port),
        RAYRTC_CLUSTER_SECRET=secret.get_secret_value() if secret else secrets.token_urlsafe(24),
        RAYRTC_WORKER_BIND="127.0.0.1",
        # changed code is to be heard soon
        RAYRTC_DRAIN_TIMEOUT=str(min(settings.drain_timeout, DRAIN_TIMEOUT)),
        PYTHONUNBUFFERED="1",
    )
    for name in ("RAYRTC_RAY_ADDRESS", "RAYRTC_REDIS_URL"):
        changed.pop(name, None)  # both are the session's own
    return changed


def free_metrics_port(settings: Settings) -> int:
    """The metrics port of the settings, or another one when that is in use and nobody chose it."""
    if "metrics_port" in settings.model_fields_set:
        return settings.metrics_port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", settings.metrics_port))
        except OSError:
            return free_port()
    return settings.metrics_port


class Dev:
    """One run of the command."""

    def __init__(self, spec: str, folder: Path, settings: Settings, reload: bool) -> None:
        self._spec = spec
        self._settings = settings
        self._reload = reload
        self._folder = folder
        self._console = Console(highlight=False)
        self._log = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._guardian: asyncio.subprocess.Process | None = None
        self._directory: str | None = None
        self._signals = 0
        self._failed = False

    async def run(self) -> int:
        """Start the guardian and follow it to its end; the exit status."""
        find_server()
        adopt_orphans()  # should the guardian be killed, they come here
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sig, self._asked_to_stop)
        command = python_command("rayrtc.guardian", self._spec)
        guardian = self._guardian = await asyncio.create_subprocess_exec(
            *command,
            *(["--reload"] if self._reload else []),
            env=environment(self._settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_MAX,
            start_new_session=True,  # Ctrl-C is for this process; it tells the others in order
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        assert guardian.stdout is not None
        assert guardian.stderr is not None
        self._say(f"[bold]rayrtc[/] {self._spec}")
        if self._console.is_terminal:
            self._status = self._console.status("starting Redis")
            self._status.start()
        tasks = [asyncio.create_task(self._pass_on(guardian.stderr), name="logs")]
        if self._reload:
            tasks.append(asyncio.create_task(self._watch(), name="watch"))
        try:
            while line := await guardian.stdout.readline():
                if event := events.parse(line):
                    self._show(event)
            status = await guardian.wait()
        finally:
            self._stop_status()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._clear()
        if status < 0:
            self._say("[red]Error:[/] the guardian process was killed; everything was ended")
            return 1
        if self._signals:
            self._say("Stopped.")
            return 0
        return 1 if self._failed else status

    def _asked_to_stop(self) -> None:
        self._signals += 1
        if self._guardian is None or self._guardian.stdin is None:
            return
        self._stop_status()
        if self._signals == 1:
            self._say("\nStopping. Ctrl-C once more: at once.")
        self._tell(b"stop\n" if self._signals == 1 else b"kill\n")
        if self._signals == 1:
            asyncio.get_running_loop().call_later(STOP_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if self._guardian is not None and self._guardian.returncode is None:
            self._guardian.kill()

    def _tell(self, command: bytes) -> None:
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._guardian.stdin.write(command)

    def _clear(self) -> None:
        """What the guardian would have done, had nobody killed it."""
        if self._directory is not None:
            Descendants(Path(self._directory).name).kill(10.0)
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _watch(self) -> None:
        async for changes in awatch(self._folder, watch_filter=PythonFilter()):
            names = sorted({os.path.relpath(path) for _, path in changes})
            self._say(f"changed: {', '.join(names)}")
            self._tell(b"reload\n")

    async def _pass_on(self, logs: asyncio.StreamReader) -> None:
        """What the services log, above the line that shows the progress."""
        rest = b""
        while data := await logs.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_MAX:
                lines, rest = [*lines, rest], b""
            kept = (line for line in lines if not CHATTER.search(line))
            text = b"\n".join(kept).decode(errors="replace")
            if not text:
                continue
            with contextlib.suppress(OSError):
                if self._status is not None:
                    self._console.out(text, highlight=False)
                else:
                    self._log.out(text, highlight=False)

    def _show(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "session":
                self._directory = event["directory"]
            case "step":
                self._say(f"  [green]✓[/] {event['name']:<14} {event['seconds']:5.1f} s")
                if self._status is not None:
                    self._status.update("starting workers and control plane")
            case "progress":
                if self._status is not None:
                    self._status.update(event["text"])
            case "restart":
                self._say(f"  [yellow]![/] {event['name']}: {event['text']}")
            case "reloaded":
                self._say("  [green]✓[/] workers run the new code for new connections")
            case "error":
                self._failed = True
                self._stop_status()
                self._say(f"[red]Error:[/] {event['text']}")
            case "ready":
                self._stop_status()
                self._show_ready(event)

    def _show_ready(self, facts: dict[str, Any]) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._settings.host, self._settings.host)
        base = f"http://{host}:{self._settings.port}"
        redis = urlsplit(facts["redis"])
        count = facts["workers"]
        rows = (
            ("Page", f"[bold cyan]{base}/[/]"),
            ("API", f"{base}/docs"),
            (
                "Metrics",
                f"{base}/metrics, workers http://127.0.0.1:{self._settings.metrics_port}/metrics",
            ),
            ("Workers", f"{count}, {facts['slots']} slots in all"),
            ("Redis", f"{find_server().name} on 127.0.0.1 port {redis.port}, nothing is stored"),
            ("Status", f"rayrtc status --redis-url {facts['redis']}"),
        )
        self._say("")
        self._say(f"[bold green]Ready[/] in {facts['seconds']:.1f} s")
        for name, text in rows:
            self._say(f"  {name:<9} {text}")
        self._say("  Ctrl-C stops everything." + ("  Changes are loaded." if self._reload else ""))
        self._say("")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._console.print(text, soft_wrap=True)

    def _stop_status(self) -> None:
        if self._status is not None:
            with contextlib.suppress(OSError):
                self._status.stop()
            self._status = None


def run(spec: str, settings: Settings, reload: bool) -> int:
    """Run `spec` on this machine until a signal; the exit status of the command.

    Raises:
        UsageError: the port is in use or there is no such module.
        NoServer: there is no Redis server to start.
    """
    folder = source_folder(spec)
    check_port(settings.host, settings.port)
    settings = settings.model_copy(update={"metrics_port": free_metrics_port(settings)})
    return asyncio.run(Dev(spec, folder, settings, reload).run())
