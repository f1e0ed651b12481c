"""The process that makes the load: `python -m benchmarks.load.generator LOAD`, LOAD as JSON.

It tells each step as a line of JSON, so that the benchmark can look at the server's processes at
the beginning and the end of the measurement.
"""

import gc
import sys
from typing import Any

import uvloop

from benchmarks.load.protocol import Event, Load, Result
from capacity import lines


def tell(event: str, detail: Any = None) -> None:
    """Write a line for the benchmark."""
    lines.tell(Event.model_validate({"event": event, "detail": detail}))


async def make(load: Load) -> Result:
    """Make the load."""
    match load.kind:
        case "audio":
            from benchmarks.load.audio import AudioCallers

            return await AudioCallers(load).run(tell)
        case "video":
            from benchmarks.load.video import VideoCallers

            return await VideoCallers(load).run(tell)
        case "websocket":
            from benchmarks.load.websocket import SocketCallers

            return await SocketCallers(load).run(tell)
        case "signalling":
            from benchmarks.load.signalling import call_in_turn

            return await call_in_turn(load, tell)
        case "inputs":
            from benchmarks.load.inputs import post_inputs

            return await post_inputs(load, tell)
        case "outputs":
            from benchmarks.load.outputs import read_outputs

            return await read_outputs(load, tell)


def main() -> None:
    load = Load.model_validate_json(sys.argv[1])
    gc.set_threshold(100_000, 50, 50)  # what is recorded is kept: to look at it is lost time
    try:
        result = uvloop.run(make(load))
    except Exception as error:
        tell("error", repr(error))
        raise
    tell("result", result.model_dump())


if __name__ == "__main__":
    main()
