"""The command `rayrtc`: everything on one machine, the two services, their status and settings."""

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from rayrtc import __version__, events
from rayrtc.bench import bench
from rayrtc.failure import FAILED, USAGE, fail
from rayrtc.settings import Settings, get_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="FastRTC's API on a cluster. Every option of the services is an environment variable "
    "with the prefix RAYRTC_ (see `rayrtc config`); options given here go before it.",
)

PIPE_WIDTH = 200

Spec = Annotated[
    str,
    typer.Argument(metavar="MODULE:ATTR", help="A Stream, or a FastAPI app with mounted streams."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port to listen on.")]
Slots = Annotated[int | None, typer.Option(min=1, help="Connections of one worker.")]
RedisURL = Annotated[str | None, typer.Option(metavar="URL", help="Redis of the cluster.")]
Events = Annotated[bool, typer.Option("--events", hidden=True)]


def settings_with(as_event: bool = False, **options: Any) -> Settings:
    """The settings, with options of the command line put over the environment."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"RAYRTC_{name.upper()}"] = str(value)
    get_settings.cache_clear()
    try:
        return get_settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "RAYRTC_" + "_".join(str(part) for part in first["loc"]).upper()
        fail(f"{name}: {first['msg']}", USAGE, as_event)
    except SettingsError as error:
        fail(str(error), USAGE, as_event)


def load_or_fail(spec: str, as_event: bool) -> None:
    """Import the application; what is wrong with it is told in short."""
    from rayrtc.loader import load

    try:
        load(spec)
    except ValueError as error:
        fail(str(error), USAGE, as_event)
    except Exception as error:
        fail(_told(spec, error), USAGE, as_event)


def _told(spec: str, error: Exception) -> str:
    """An exception of the application's own code: where it happened there, and what."""
    if isinstance(error, SyntaxError):
        return f"{spec} cannot be loaded: {error.filename}, line {error.lineno}: {error.msg}"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and Path(frame.filename).name != "loader.py"
    ]
    where = "".join(traceback.format_list(own[1:]))
    return f"{spec} cannot be loaded: {type(error).__name__}: {error}\n{where}".rstrip()


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(f"rayrtc {__version__}")
        raise typer.Exit


@app.command()
def dev(
    spec: Spec,
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Workers in the pool; unset, it follows the calls.", show_default=False
        ),
    ] = None,
    slots: Slots = None,
    reload: Annotated[bool, typer.Option("--reload", help="Load changed code.")] = False,
) -> None:
    """Start everything on this machine: a Redis server, a Ray, workers and the control plane.

    Ctrl-C ends all of it; nothing stays behind, whatever ends the command.
    """
    from rayrtc.dev import run
    from rayrtc.embedded_redis import NoServer
    from rayrtc.preflight import UsageError

    settings = settings_with(
        host=host, port=port, slots=slots, workers_min=workers, workers_max=workers
    )
    try:
        status = run(spec, settings, reload)
    except UsageError as error:
        fail(str(error), USAGE)
    except NoServer as error:
        fail(str(error))
    raise SystemExit(status)


@app.command("control-plane")
def control_plane(
    spec: Spec,
    host: Host = None,
    port: Port = None,
    redis_url: RedisURL = None,
    as_events: Events = False,
) -> None:
    """Serve the HTTP side: one stateless replica, as many as you like."""
    from rayrtc import logs
    from rayrtc.preflight import UsageError, check_port

    settings = settings_with(as_events, host=host, port=port, redis_url=redis_url)
    logs.configure(settings)
    check_secret(settings, as_events)
    try:
        check_port(settings.host, settings.port)
    except UsageError as error:
        fail(str(error), USAGE, as_events)
    load_or_fail(spec, as_events)

    from control_plane.serve import serve

    serve(spec, settings)


@app.command()
def workers(
    spec: Spec,
    redis_url: RedisURL = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ray head to join; none: a Ray of our own."),
    ] = None,
    minimum: Annotated[int | None, typer.Option("--min", help="Least workers.")] = None,
    maximum: Annotated[int | None, typer.Option("--max", help="Most workers.")] = None,
    slots: Slots = None,
    as_events: Events = False,
) -> None:
    """Run the media workers of this node, as part of the cluster's pool.

    SIGHUP loads the application anew: new calls run its new code, calls under way end with theirs.
    SIGTERM drains the node: no new calls, and RAYRTC_DRAIN_TIMEOUT for those that run. SIGINT, or a
    second SIGTERM, ends them.
    """
    from rayrtc import logs
    from rayrtc.preflight import UsageError, source_folder

    settings = settings_with(
        as_events,
        redis_url=redis_url,
        ray_address=ray_address,
        workers_min=minimum,
        workers_max=maximum,
        slots=slots,
    )
    logs.configure(settings)
    check_secret(settings, as_events)
    try:
        # The workers import the application, not this process: it may take a GPU's memory.
        source_folder(spec)
    except UsageError as error:
        fail(str(error), USAGE, as_events)

    from workers import service
    from workers.pool import PoolStatus

    console = Console(stderr=True, highlight=False)
    stop, at_once, reload = threading.Event(), threading.Event(), threading.Event()

    def on_stop(sig: int, _: object) -> None:
        if sig == signal.SIGINT or stop.is_set():
            at_once.set()
        stop.set()

    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, on_stop)
    signal.signal(signal.SIGHUP, lambda *_: reload.set())

    def on_progress(text: str) -> None:
        if as_events:
            events.write("progress", text=text)
        else:
            console.print(text)

    def on_ready(status: PoolStatus) -> None:
        if as_events:
            events.write("ready", workers=status.ready, slots=status.slots)
        else:
            console.print(f"ready: {status.ready} workers with {status.slots} slots")

    def on_reloaded(status: PoolStatus) -> None:
        if as_events:
            events.write("reloaded", workers=status.ready)
        else:
            console.print(f"reloaded: {status.ready} workers run the new code")

    try:
        service.run(
            spec,
            settings,
            on_progress=on_progress,
            on_ready=on_ready,
            stop=stop,
            at_once=at_once,
            reload=reload,
            on_reloaded=on_reloaded,
        )
    except service.ServiceError as error:
        fail(str(error), FAILED, as_events)


def check_secret(settings: Settings, as_event: bool) -> None:
    """End the command when there is no secret for the services to know each other by."""
    try:
        settings.secret()
    except ValueError as error:
        fail(str(error), USAGE, as_event)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    redis_url: RedisURL = None,
) -> None:
    """List the workers and the connections of the cluster."""
    from rayrtc.status import Unreachable, print_status, read_status

    settings = settings_with(redis_url=redis_url)
    try:
        cluster = asyncio.run(read_status(settings))
    except Unreachable as error:
        fail(str(error))
    if as_json:
        print(json.dumps(cluster.to_json(), indent=2))
    else:
        # A pipe has no width of its own, and a program that reads it wants no folded cells.
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        print_status(cluster, Console(highlight=False, width=width))


@app.command()
def drain(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKER|NODE", help="As `rayrtc status` shows them; a node's address too."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All workers of all nodes.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds; then what is left is closed [RAYRTC_DRAIN_TIMEOUT]."),
    ] = None,
    reconnect: Annotated[
        bool,
        typer.Option("--reconnect", help="Close the calls now: their clients connect elsewhere."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until no calls are left.")] = True,
    redis_url: RedisURL = None,
) -> None:
    """Take a worker or a node out of service without cutting calls.

    No new calls come there. A drained worker ends when it is empty, and the pool replaces it; on a
    drained node nothing is started any more, until its `rayrtc workers` is started anew.
    """
    from rayrtc.cluster.models import Drain
    from rayrtc.drain import DrainError
    from rayrtc.drain import drain as run

    if (target is None) is not everything:
        fail("name a worker or a node, or give --all", USAGE)
    settings = settings_with(redis_url=redis_url)
    seconds = settings.drain_timeout if timeout is None else timeout
    request = Drain(seconds=seconds, reconnect=reconnect)
    try:
        asyncio.run(run(settings, target, request, wait, print))
    except DrainError as error:
        fail(str(error))


@app.command()
def config() -> None:
    """Print every option with its value, its default and what it does. Secrets are masked."""
    from rayrtc.status import print_settings

    print_settings(settings_with(), Console(highlight=False))


app.command()(bench)


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
