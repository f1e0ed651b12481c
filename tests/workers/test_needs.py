"""Streams with different needs: a wrong pool asks Ray for a GPU that nobody uses, or for none."""

from collections.abc import Iterator

import pytest

from rayrtc import Stream
from rayrtc.settings import Settings
from workers.needs import actor_options, by_needs, default_needs, fits, told


def generate() -> Iterator[None]:
    yield None


def stream(**resources: float) -> Stream:
    return Stream(generate, modality="audio", mode="receive", resources=resources)


JOINED = Settings(ray_address="10.0.0.1:6379", worker_cpus=1.0)


def test_streams_that_need_the_same_share_their_workers() -> None:
    streams = {"a": stream(), "b": stream(GPU=0.5), "c": stream(), "d": stream(GPU=0.5, studio=1)}
    assert by_needs(streams, JOINED) == {
        (("CPU", 1.0),): ["a", "c"],
        (("CPU", 1.0), ("GPU", 0.5)): ["b"],
        (("CPU", 1.0), ("GPU", 0.5), ("studio", 1.0)): ["d"],
    }


def test_on_one_machine_all_streams_share_them() -> None:
    """`rayrtc dev` on a laptop without a GPU serves every stream."""
    own = Settings(ray_address=None)
    assert by_needs({"a": stream(), "b": stream(GPU=1)}, own) == {default_needs(own): ["a", "b"]}


def test_what_ray_is_asked_for() -> None:
    needs = (("CPU", 2.0), ("GPU", 0.5), ("studio", 1.0))
    assert actor_options(needs) == {"num_cpus": 2.0, "num_gpus": 0.5, "resources": {"studio": 1.0}}
    assert actor_options((("CPU", 1.0),)) == {"num_cpus": 1.0, "num_gpus": 0.0}
    assert told(needs) == "2 CPU, 0.5 GPU, 1 studio"


def test_which_nodes_can_hold_a_worker() -> None:
    needs = (("CPU", 1.0), ("GPU", 0.5))
    assert fits(needs, {"CPU": 4.0, "GPU": 1.0})
    assert not fits(needs, {"CPU": 4.0})
    assert not fits(needs, {"CPU": 0.5, "GPU": 1.0})


def test_a_need_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        stream(GPU=0)
