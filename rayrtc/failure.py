"""How a command ends that cannot do what it was told."""

import sys
from typing import NoReturn

from rayrtc import events

FAILED = 1
USAGE = 2
"""Exit status when the command line, the settings or the application are at fault."""


def fail(text: str, status: int = FAILED, as_event: bool = False) -> NoReturn:
    """End the command with one line of text, which `rayrtc dev` may have asked for as an event."""
    if as_event:
        events.write("error", text=text)
    else:
        print(f"rayrtc: {text}", file=sys.stderr)
    raise SystemExit(status)
