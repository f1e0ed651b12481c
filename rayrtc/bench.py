"""The options of `rayrtc bench`; what it does is in the package `capacity`."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rayrtc.failure import USAGE, fail


class Transport(StrEnum):
    """Of the calls."""

    webrtc = "webrtc"
    websocket = "websocket"


def bench(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://HOST:PORT of any replica.")],
    path: Annotated[str, typer.Option(help="Where the stream is mounted.")] = "",
    transport: Annotated[Transport, typer.Option(help="How calls are made.")] = Transport.webrtc,
    step: Annotated[int, typer.Option(min=1, help="Calls that are added at a time.")] = 10,
    hold: Annotated[
        float, typer.Option(min=3, help="Seconds for which each step is measured.")
    ] = 10,
    most: Annotated[int, typer.Option("--max", min=1, help="Calls to try at most.")] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="Calls a second that are begun.")] = 5,
    loss: Annotated[
        float, typer.Option(min=0, max=100, help="Bound: % of packets lost or late, each way.")
    ] = 1,
    round_trip: Annotated[
        float, typer.Option(min=1, help="Bound: ms of the round trip of an echo, p99.")
    ] = 200,
    setup: Annotated[
        float, typer.Option(min=1, help="Bound: ms from an offer to its first media, p99.")
    ] = 2000,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Sent with each request; may be repeated."),
    ] = None,
    sample_rate: Annotated[
        int, typer.Option(min=8000, help="Hz of a WebSocket: the handler's input_sample_rate.")
    ] = 48000,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="That make the load; unset, one for each processor."),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Gets capacity.json and capacity.png.")
    ] = Path("rayrtc-bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out how many calls a running deployment carries: ramp them up until a bound breaks.

    Run it on another machine than the deployment. Exits with 1 when no call can be made.
    """
    from capacity.bench import Options
    from capacity.command import BenchError, processors
    from capacity.command import bench as run
    from capacity.protocol import Target
    from capacity.quality import Bounds

    if not url.startswith(("http://", "https://")):
        fail(f"{url!r} is no URL of the form http://HOST:PORT", USAGE)
    headers = dict(header_pair(text) for text in header or ())
    options = Options(
        Target(
            url=f"{url.rstrip('/')}/{path.strip('/')}".rstrip("/"),
            transport=transport.value,
            headers=headers,
            sample_rate=sample_rate,
        ),
        Bounds(loss=loss / 100, round_trip=round_trip / 1000, setup=setup / 1000),
        step=step,
        most=most,
        rate=rate,
        hold=hold,
        processes=min(processes or processors(), most),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(options, output, as_json)
    except BenchError as error:
        fail(str(error))


def header_pair(text: str) -> tuple[str, str]:
    """Name and value of a header as it is given on the command line."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        fail(f"--header {text!r} is not of the form NAME:VALUE", USAGE)
    return name.strip(), value.strip()
