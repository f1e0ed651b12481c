"""How fast does a reply fall silent when the caller speaks? As heard in Chromium.

    python -m benchmarks.interruption [--count 20]

One call of a running stack (a worker, a replica); Chromium's microphone plays recorded speech, and
each utterance interrupts an endless reply. Microphone and speaker are metered in the page, on one
clock, in steps of 5.3 ms: the time is from the first sound of an utterance, as the microphone gives
it, to the last sound of the reply, as the speaker would play it. So it has everything in it: the
browser's capture and Opus, both jitter buffers, voice detection, the handler, and the way back.
The browser's own noise suppression is off, as it would hide when speech begins.

`--url` measures another server with the same protocol: a stream whose replies do not end.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np

from capacity.conversation import conversation
from tests.e2e.stack import Stack
from tests.e2e.talking_page import BLOCK, RATE, TalkingPage, microphone
from tests.speech import noise

PAUSE = 3.0
"""Seconds between two utterances: until the pause is detected, and then of the reply."""
WATCHED = 2.5
"""Seconds that a reply is given to end."""
LIMIT = 0.3
"""Seconds that an interruption may take."""
LOUD = 0.02
"""Of full scale."""
SECOND = RATE / BLOCK


def interruptions(levels: np.ndarray) -> list[float]:
    """Seconds from the beginning of each utterance that a reply was playing to, to the reply's end.

    Infinite when there was no silence of 0.15 s within `WATCHED`: the reply went on, or the next
    one followed at once.
    """
    talking, sounding = levels.T > LOUD
    quiet = round(SECOND)
    times = []
    for start in np.flatnonzero(talking):
        before = slice(max(0, start - quiet), start)
        if talking[before].any() or not sounding[start - 10 : start].any():
            continue
        after = sounding[start : start + round(WATCHED * SECOND)]
        gap = round(0.15 * SECOND)
        ends = [at for at in np.flatnonzero(after) if not after[at + 1 : at + 1 + gap].any()]
        finished = bool(ends) and ends[0] + gap < len(after)
        times.append((ends[0] + 1) / SECOND if finished else float("inf"))
    return times


def shown(time: float) -> str:
    return f"{time * 1000:.0f}" if time < WATCHED else f"over {WATCHED * 1000:.0f}"


async def measure(url: str, count: int) -> list[float]:
    spoken = conversation()
    utterances = [spoken[number % len(spoken)] for number in range(count + 1)]
    room = noise(PAUSE, level=0.0005)
    recorded = np.concatenate([room, *[part for one in utterances for part in (one, room)]])
    with tempfile.TemporaryDirectory() as directory:
        async with microphone(recorded, Path(directory)) as page:
            call = TalkingPage(page, url)
            await call.connect()
            await call.speak(processing=False)
            await asyncio.sleep(len(recorded) / RATE + 0.5)
            levels = await call.levels()
            await call.close()
    return interruptions(levels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--url", help="of a stream that runs already")
    options = parser.parse_args()
    if options.url:
        times = asyncio.run(measure(options.url, options.count))
    else:
        stack = Stack("tests.e2e.talkers:app", workers=1)
        try:
            stack.start()
            times = asyncio.run(measure(stack.replicas["a"] + "/endless", options.count))
        finally:
            stack.stop()
    print("ms:", *map(shown, times))
    within = sum(time <= LIMIT for time in times)
    print(
        f"{len(times)} interruptions: median {shown(float(np.median(times)))} ms, "
        f"max {shown(max(times))} ms, {within} within {LIMIT * 1000:.0f} ms"
    )
    raise SystemExit(0 if len(times) >= options.count and within == len(times) else 1)


if __name__ == "__main__":
    main()
