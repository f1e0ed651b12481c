"""How a process that makes load tells what it found: a line of JSON for each thing."""

import sys

from pydantic import BaseModel


def tell(said: BaseModel) -> None:
    """Write a line, without what is not there."""
    line = said.model_dump_json(exclude_none=True)
    # `sys.stdout` of an unbuffered Python forgets what the pipe does not take at once
    with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as out:
        print(line, file=out)
