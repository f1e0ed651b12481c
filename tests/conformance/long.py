"""Everything that takes long, done at the same time: it waits more than it computes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance.cells import Cell, observe
from tests.conformance.conversations import CONVERSATIONS
from tests.conformance.observed import Observed
from tests.conformance.slow import SLOW

AT_ONCE = 5
"""Calls at a time: a `rayrtc dev` has eight slots, of which slow rules need some."""


@dataclass
class Long:
    """What was seen of all calls, and what was wrong.

    Attributes:
        conversations: by name, what was raised.
        rules: by name, what is wrong.
    """

    cells: dict[Cell, Observed]
    conversations: dict[str, BaseException | None]
    rules: dict[str, list[str]]


async def observe_all(
    base: str, cells: Sequence[Cell], conversations: Sequence[str], rules: Sequence[str]
) -> Long:
    """Make these calls and check these rules."""
    room = asyncio.Semaphore(AT_ONCE)

    async def converse(name: str) -> BaseException | None:
        try:
            async with room:
                await CONVERSATIONS[name](base)
        except Exception as error:
            return error
        return None

    async def check(name: str) -> list[str]:
        try:
            return await SLOW[name](base)
        except Exception as error:
            return [repr(error)]

    spoken, wrong, observed = await asyncio.gather(
        asyncio.gather(*map(converse, conversations)),
        asyncio.gather(*map(check, rules)),
        observe(base, cells, room),
    )
    return Long(
        observed,
        dict(zip(conversations, spoken, strict=True)),
        dict(zip(rules, wrong, strict=True)),
    )
