"""Do other calls notice a handler that misbehaves? Prints a table of their packets.

    python -m benchmarks.misbehaving_handlers [--seconds 6] [NAME ...]

Two workers. Listeners on both hear a tone of 50 packets a second; then a call to each misbehaving
handler is made, and the packets of the listeners on the other worker, and on the same one where its
kind promises it, are looked at by sequence number and arrival. Passed: 49 packets a second or more,
none lost, no gap above 60 ms. The exit status is 1 if a row has not passed.

A busy machine makes gaps of its own: the first row is measured without any misbehaviour.
"""

import argparse
import asyncio
import contextlib
import time

from tests.clients import AiortcClient
from tests.e2e.misbehaving import MISBEHAVING
from tests.e2e.packets import Listener, Span
from tests.e2e.stack import Stack

LEAST_RATE = 49.0
LONGEST_GAP = 0.060
SAME_WORKER = {"sleeps", "raises", "never-returns", "spins", "raises-async", "never-returns-async"}
"""Handlers that block no event loop: calls on their own worker go on too."""
HANG_TIMEOUT = 3.0


async def listeners_on_both(stack: Stack) -> dict[str, Listener]:
    """A listener on each worker, by the worker's id."""
    chosen: dict[str, Listener] = {}
    for _ in range(12):
        listener = Listener(stack.replicas["b"] + "/tone")
        await listener.connect()
        where = await workers_of(stack)
        if chosen.setdefault(where[listener.webrtc_id], listener) is not listener:
            await listener.close()
        if len(chosen) == 2:
            return chosen
    raise RuntimeError("all listeners are on one worker")


async def workers_of(stack: Stack) -> dict[str, str]:
    """The worker of each connection."""
    status = await asyncio.to_thread(stack.status)
    return {c["connection_id"]: c["worker_id"] for c in status["connections"]}


def row(name: str, where: str, span: Span) -> bool:
    passed = span.rate >= LEAST_RATE and span.gap <= LONGEST_GAP and span.lost == 0
    verdict = "passed" if passed else "FAILED"
    print(
        f"{name:20} {where:14} {span.rate:9.1f} {span.gap * 1000:7.0f} {span.lost:6} {verdict}",
        flush=True,
    )
    return passed


async def measure(stack: Stack, name: str | None, seconds: float) -> bool:
    """One misbehaving call beside a listener on each worker."""
    await asyncio.to_thread(stack.wait_ready)
    listeners = await listeners_on_both(stack)
    await asyncio.sleep(1)
    caller = AiortcClient(stack.replicas["a"] + f"/{name}")
    worker = None
    begin = time.monotonic()
    if name is not None:
        with contextlib.suppress(TimeoutError):  # its worker may be gone at once
            await caller.connect()
        worker = (await workers_of(stack)).get(caller.webrtc_id)
    await asyncio.sleep(seconds)
    end = time.monotonic()
    passed = True
    if name is None:
        for number, listener in enumerate(listeners.values()):
            passed &= row("nobody", f"worker {number + 1}", listener.span(begin, end))
    elif name in SAME_WORKER:
        for number, (worker_id, listener) in enumerate(listeners.items()):
            where = "same worker" if worker_id == worker else "other worker"
            if worker is None:  # the call has ended already
                where = f"worker {number + 1}"
            passed &= row(name, where, listener.span(begin, end))
    else:
        # which one it was shows by its silence, or by its end
        best = max(listeners.values(), key=lambda one: one.span(begin, end).rate)
        passed &= row(name, "other worker", best.span(begin, end))
    for client in (caller, *listeners.values()):
        await client.close()
    return passed


async def run(stack: Stack, names: list[str], seconds: float) -> bool:
    print(f"{'handler':20} {'listener on':14} {'packets/s':>9} {'gap ms':>7} {'lost':>6}")
    results = [await measure(stack, name, seconds) for name in (None, *names)]
    return all(results)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(MISBEHAVING), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    stack = Stack("tests.e2e.misbehaving:app")
    stack.env["RAYRTC_HANG_TIMEOUT"] = str(HANG_TIMEOUT)
    try:
        stack.start()
        passed = asyncio.run(run(stack, options.names, options.seconds))
    finally:
        stack.stop()
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
