"""Echo calls while a part of the UDP packets is lost each way, as the table of docs/turn.md.

    python -m tests.network.loss [--calls N] [PERCENT ...]

Ten short calls or N, of which each has to connect, and one of 30 s, from aiortc and from libwebrtc
(the engine of Chromium), both at a time. Needs root and iptables.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from tests.network.site import Site, site

SECONDS = 30
CLIENTS = ("aiortc", "libwebrtc")
HEAD = (
    *("loss each way", "client", "connected", "time to connect, median and longest"),
    *("heard", "longest gap", "to the server: sent, lost", "back: received, lost"),
)


def calls(running: Site, client: str, count: int) -> list[dict[str, Any]]:
    arguments = (running.deployment.app, "--client", client)
    short = ("--calls", str(count), "--seconds", "1")
    outside = running.network["outside"]
    made = outside.report("echo_call", *arguments, *short, timeout=40 * count)
    return made + outside.report("echo_call", *arguments, "--seconds", str(SECONDS), timeout=100)


def row(percent: float, client: str, made: list[dict[str, Any]]) -> list[str]:
    times = [call["connect"] for call in made if call["connect"] is not None]
    connected = f"{len(times)} of {len(made)}"
    if made[-1]["connect"] is None:
        return [f"{percent:g} %", client, connected, *[""] * 5]
    long = made[-1]
    return [
        *(f"{percent:g} %", client, connected, f"{median(times):.2f} s, {max(times):.2f} s"),
        *(f"{long['heard']:.1f} of {SECONDS} s", f"{long['gap']:.2f} s"),
        f"{long['out']['sent']}, {long['out']['lost']}",
        f"{long['in']['received']}, {long['in']['lost']}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percent", type=float, nargs="*", default=[0, 5, 20])
    parser.add_argument("--calls", type=int, default=10, help="short ones of each client")
    arguments = parser.parse_args()
    good = True
    with site(worker_turn=False) as running, ThreadPoolExecutor() as pool:
        for cells in (HEAD, ["---"] * len(HEAD)):
            print("| " + " | ".join(cells) + " |")
        for percent in arguments.percent:
            with running.loss(percent / 100):
                futures = {
                    client: pool.submit(calls, running, client, arguments.calls)
                    for client in CLIENTS
                }
                for client, future in futures.items():
                    made = future.result()
                    good = good and all(call["connect"] is not None for call in made)
                    print("| " + " | ".join(row(percent, client, made)) + " |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
