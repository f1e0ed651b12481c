"""Calls by all clients, conversations and waits, made at the same time (see `long`)."""

import pytest

from tests.conformance.cells import CELLS, Cell
from tests.conformance.conversations import CONVERSATIONS
from tests.conformance.long import Long
from tests.conformance.slow import SLOW
from tests.conformance.verify import problems


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell(cell: Cell, long: Long) -> None:
    """Each transport, modality and mode with each client"""
    observed = long.cells[cell]
    if cell.supported:
        assert problems(observed, cell.modality, cell.mode) == []
    else:
        assert observed.errors == ["unsupported_track"]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_conversation(conversation: str, long: Long) -> None:
    """Spoken words: a reply to each utterance, inputs, interruption and none, stop words"""
    if (error := long.conversations[conversation]) is not None:
        raise error


@pytest.mark.parametrize("slow_rule", SLOW)
def test_waiting(slow_rule: str, long: Long) -> None:
    """A place of a client that never connects comes free; an idle event stream has comments"""
    assert long.rules[slow_rule] == []
