"""Which nodes the supervisor starts workers on."""

from typing import Any

import pytest
import ray

from workers.nodes import NO_ROOM, Nodes

SMALL = (("CPU", 1.0),)
LARGE = (("CPU", 1.0), ("GPU", 1.0))


def ray_node(node_id: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": node_id, "Alive": alive, "Resources": resources}


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Two that can hold small workers, of which "b" can hold large ones."""
    seen = [
        ray_node("head", CPU=0),
        ray_node("a", CPU=2),
        ray_node("b", CPU=2, GPU=1),
        ray_node("dead", alive=False, CPU=2),
    ]
    monkeypatch.setattr(ray, "nodes", lambda: seen)
    nodes = Nodes()
    await nodes.look([SMALL, LARGE])
    return nodes


def test_only_live_nodes_that_fit_are_open(nodes: Nodes) -> None:
    assert nodes.ids == {"a", "b"}
    assert nodes.open(SMALL) == ["a", "b"]
    assert nodes.open(LARGE) == ["b"]


def test_a_drained_node_fits_and_is_not_open(nodes: Nodes) -> None:
    nodes.cordoned.add("b")
    assert (nodes.fitting(LARGE), nodes.open(LARGE)) == (["b"], [])


def test_a_node_without_room_is_left_alone_until_something_ends_there(nodes: Nodes) -> None:
    """Other pools may take all of it; each try would start a worker elsewhere, one too many."""
    nodes.no_room("b", SMALL, now=100)
    assert nodes.with_room(SMALL, now=101) == ["a"]
    assert nodes.with_room(LARGE, now=101) == ["b"], "of another kind there may be room"
    nodes.freed("a")
    assert nodes.with_room(SMALL, now=101) == ["a"]
    nodes.freed("b")
    assert nodes.with_room(SMALL, now=101) == ["a", "b"]


def test_a_node_without_room_is_tried_again_later(nodes: Nodes) -> None:
    nodes.no_room("b", SMALL, now=100)
    assert nodes.with_room(SMALL, now=100 + NO_ROOM) == ["a", "b"]
