"""Withdraws workers that are gone from the registry and tells their callers, also after Redis was
away."""

import logging

from redis.asyncio import Redis

from rayrtc.cluster.models import ConnectionRecord, EndReason
from rayrtc.cluster.outputs import append_lost
from rayrtc.cluster.reaper import Reaper
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.registry import Registry
from rayrtc.settings import Settings

logger = logging.getLogger(__name__)

LOST_MAX = 1024
"""Dead workers that wait for Redis to be withdrawn; of more, their leases run out by themselves."""


class LostWorkers:
    """Those that are known to be gone and not withdrawn yet, and callers not told yet."""

    def __init__(self, registry: Registry, redis: Redis, settings: Settings) -> None:
        self._registry = registry
        self._reaper = Reaper(registry, settings)
        self._redis = redis
        self._settings = settings
        self._workers: dict[str, EndReason] = {}
        self._records: list[ConnectionRecord] = []

    def add(self, worker_id: str, reason: EndReason) -> None:
        """A worker is gone; `reason` is what its callers are told."""
        if len(self._workers) < LOST_MAX:
            self._workers[worker_id] = reason

    async def withdraw(self) -> None:
        """Free their slots and tell their connections' readers; later, if Redis is away."""
        try:
            await self._withdraw()
        except UNREACHABLE as error:
            logger.warning("a dead worker is withdrawn later, Redis is away: %s", error)

    async def reap(self) -> None:
        """The same, and for the workers whose leases have ended.

        Raises:
            RedisError, OSError: Redis is away; nothing is lost.
        """
        await self._withdraw()
        self._records += await self._reaper.reap()
        await self._tell()

    async def _withdraw(self) -> None:
        for worker_id, reason in list(self._workers.items()):
            self._records += await self._registry.withdraw(worker_id, reason)
            self._workers.pop(worker_id, None)
        await self._tell()

    async def _tell(self) -> None:
        records, self._records = self._records, []
        if not records:
            return
        try:
            await append_lost(self._redis, self._settings, records)
        except UNREACHABLE:
            self._records = records[-LOST_MAX:]
            raise
