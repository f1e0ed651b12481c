"""What the processes of `rayrtc dev` tell each other: one JSON object a line, marked by `event`."""

import json
import sys
from typing import Any, Literal

Event = Literal[
    "session",  # guardian: its temporary directory
    "step",  # guardian: a service is ready, after how many seconds
    "progress",  # workers: what they are doing
    "ready",  # workers: the pool is; guardian: everything is
    "restart",  # guardian: a service ended and is started again
    "reloaded",  # workers, guardian: new code runs
    "error",  # any: why it cannot go on
]


def write(event: Event, **fields: Any) -> None:
    """Say it on stdout. Nobody may be listening any more, which is no reason to fail."""
    try:
        # in one write: a line of another process must not come between it and its end
        sys.stdout.write(json.dumps({"event": event, **fields}, default=str) + "\n")
        sys.stdout.flush()
    except OSError:
        # Python would complain once more when it flushes at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123


def parse(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None for any other text."""
    if not line.startswith(b'{"event"'):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
