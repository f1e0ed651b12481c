"""Ray's nodes as the supervisor sees them: where workers run, and where one may be started."""

import logging
import math
import time
from collections.abc import Iterable
from typing import NamedTuple

import ray

from rayrtc.cluster.registry import Registry
from workers.member import in_thread
from workers.needs import Needs, fits, told

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 2.0
"""Seconds between two looks at Ray's nodes."""
NO_ROOM = 600.0
"""Seconds until a node that had no room for a worker is tried again, if nothing ends there."""


class Node(NamedTuple):
    """A live node that can hold workers."""

    node_id: str
    resources: dict[str, float]


class Nodes:
    """The live nodes that can hold a worker of some kind and do not leave.

    Attributes:
        leaving: their service stops: they have no workers any more.
        cordoned: they were asked to drain: nothing is started there, what runs goes on.
    """

    def __init__(self) -> None:
        self.leaving: set[str] = set()
        self.cordoned: set[str] = set()
        self._nodes: list[Node] = []
        self._seen = -math.inf
        self._no_room: dict[tuple[str, Needs], float] = {}

    @property
    def ids(self) -> set[str]:
        """All of them, those that drain too."""
        return {node.node_id for node in self._nodes}

    def fitting(self, needs: Needs) -> list[str]:
        """Those that can hold such a worker."""
        return [node.node_id for node in self._nodes if fits(needs, node.resources)]

    def open(self, needs: Needs) -> list[str]:
        """Those where such a worker may be started."""
        return [node for node in self.fitting(needs) if node not in self.cordoned]

    def with_room(self, needs: Needs, now: float) -> list[str]:
        """The open ones where Ray was not without room for such a worker a while ago."""
        return [n for n in self.open(needs) if self._no_room.get((n, needs), now) <= now]

    def no_room(self, node: str, needs: Needs, now: float) -> None:
        """Ray has put a worker elsewhere that was meant for this node, where others take it all."""
        logger.info("node %s has no room for a worker with %s", node, told(needs))
        self._no_room[node, needs] = now + NO_ROOM

    def freed(self, node: str | None) -> None:
        """A worker has ended there: what it took is to be had."""
        for key in [key for key in self._no_room if key[0] == node]:
            del self._no_room[key]

    def join(self, node: str) -> None:
        """A service has been started on a node, which may have left or been drained before."""
        self.leaving.discard(node)
        self.cordoned.discard(node)
        self.freed(node)
        self._seen = -math.inf

    async def look(self, kinds: Iterable[Needs], at_once: bool = False) -> None:
        """Ask Ray for its nodes, unless that was a moment ago.

        Raises:
            RayError, TimeoutError: Ray's head does not answer.
        """
        if not at_once and time.monotonic() - self._seen < LOOK_INTERVAL:
            return
        kinds = list(kinds)
        self._nodes = [
            Node(node["NodeID"], node["Resources"])
            for node in await in_thread(ray.nodes)
            if node["Alive"]
            and any(fits(needs, node["Resources"]) for needs in kinds)
            and node["NodeID"] not in self.leaving
        ]
        self._seen = time.monotonic()

    async def look_for_drains(self, registry: Registry) -> None:
        """Ask which were asked to drain. Their workers know it themselves.

        Raises:
            RedisError, OSError: Redis is away.
        """
        asked = await registry.draining(sorted(self.ids))
        for node in asked - self.cordoned:
            logger.info("node %s drains", node)
        self.cordoned |= asked
