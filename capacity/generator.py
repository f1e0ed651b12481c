"""A process that makes load: `python -m capacity.generator`.

Its standard input has the target and then a command a line, each of which it answers with lines on
its standard output. The end of them, or SIGTERM, ends its calls and the process; Ctrl-C is left to
the command that started it.
"""

import asyncio
import gc
import resource
import signal
import sys

import uvloop

from capacity.lines import tell
from capacity.load import Load
from capacity.protocol import Command, Reply, Target

FILES = 10_000
"""That a process may have open, if the system allows."""


async def obey() -> None:
    """Do as told until there are no more commands."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    working = asyncio.current_task()
    assert working is not None
    loop.add_signal_handler(signal.SIGTERM, working.cancel)
    # not an argument: its headers are credentials, and everybody sees arguments
    target = Target.model_validate_json(await commands.readline())
    async with Load(target) as load, asyncio.TaskGroup() as tasks:
        tell(Reply(ready=True))
        doing: asyncio.Task[None] | None = None
        # the command that is being done must not keep us from reading the end
        while line := await commands.readline():
            doing = tasks.create_task(do(load, Command.model_validate_json(line)))
        if doing is not None:
            doing.cancel()


async def do(load: Load, command: Command) -> None:
    """Do what a command says, and answer it."""
    if command.calls is not None:
        calls = await load.set_calls(
            command.calls, command.every, lambda live: tell(Reply(live=live))
        )
        tell(Reply(calls=calls))
    if command.measure is not None:
        tell(Reply(sample=await load.measure(command.measure)))


def allow_many_files() -> None:
    """Each call has a socket, and the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_many_files()
    gc.set_threshold(100_000, 50, 50)  # what is recorded is kept: to look at it is lost time
    try:
        uvloop.run(obey())
    except asyncio.CancelledError:
        pass  # SIGTERM; the calls have ended
    except Exception as error:
        tell(Reply(error=repr(error)))
        raise


if __name__ == "__main__":
    main()
