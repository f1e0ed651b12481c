"""What a worker takes of a Ray node. Streams that need the same share their workers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayrtc.settings import Settings
from rayrtc.stream import Stream

Needs = tuple[tuple[str, float], ...]
"""Resources by Ray's names (CPU, GPU, custom ones), sorted: a pool for each."""


def default_needs(settings: Settings) -> Needs:
    """Of streams that say nothing."""
    return _sorted({"CPU": settings.worker_cpus, "GPU": settings.worker_gpus})


def needs_of(stream: Stream, settings: Settings) -> Needs:
    """Of a stream. A Ray of our own has what its machine has: there all streams share workers."""
    if settings.ray_address is None:
        return default_needs(settings)
    return _sorted({**dict(default_needs(settings)), **stream.resources})


def by_needs(streams: Mapping[str, Stream], settings: Settings) -> dict[Needs, list[str]]:
    """The names of the streams of each pool."""
    pools: dict[Needs, list[str]] = {}
    for name, stream in streams.items():
        pools.setdefault(needs_of(stream, settings), []).append(name)
    return pools


def fits(needs: Needs, resources: Mapping[str, float]) -> bool:
    """Whether a node with these resources, when nothing else runs there, can hold a worker."""
    return all(resources.get(name, 0.0) >= amount for name, amount in needs)


def actor_options(needs: Needs) -> dict[str, Any]:
    """As Ray's `.options` wants them."""
    rest = dict(needs)
    options: dict[str, Any] = {"num_cpus": rest.pop("CPU", 0.0), "num_gpus": rest.pop("GPU", 0.0)}
    return {**options, "resources": rest} if rest else options


def told(needs: Needs) -> str:
    """For people."""
    return ", ".join(f"{amount:g} {name}" for name, amount in needs)


def _sorted(resources: Mapping[str, float]) -> Needs:
    items: Sequence[tuple[str, float]] = sorted(resources.items())
    return tuple((name, float(amount)) for name, amount in items if amount > 0)
