"""The registry: which workers live, which connection has which slot. A change is one script."""

import asyncio
import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from rayrtc.cluster.keys import Keys
from rayrtc.cluster.models import (
    ConnectionRecord,
    ConnectionState,
    Drain,
    EndReason,
    Lease,
    LiveConnection,
    Renewal,
    Reservation,
    StreamUsage,
    WorkerStatus,
)
from rayrtc.cluster.redis import UNREACHABLE, load_script
from rayrtc.errors import (
    ConcurrencyLimitReached,
    ConnectionAlreadyExists,
    NoWorkerAvailable,
    UnknownConnection,
)
from rayrtc.settings import Settings

RESERVE_TIMEOUT: Final = 3.0
"""Seconds after which a client is told that there is no worker, when Redis does not answer."""
KEEP: Final = 60.0
"""Least seconds that the registry's keys live beyond their last use."""
DRAIN_TTL: Final = 86_400.0
"""Seconds that a request to drain is kept; ids of workers and nodes do not come back."""
READ_BATCH: Final = 500
"""Records read in one round trip."""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Registry:
    """Leases, slots and connection records in Redis.

    Times are those of Redis, so clocks of hosts do not matter. Everything expires: a lease after
    `lease_ttl`, a reservation after `reservation_ttl`, the record of an ended connection after
    `record_ttl`.

    Unless an operation says otherwise it raises `redis.exceptions.RedisError` or `OSError` when
    Redis is away.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.cluster)
        self._settings = settings
        self._settle = 2 * settings.lease_interval
        self._keep = max(KEEP, 10 * settings.lease_ttl, 2 * settings.reservation_ttl)
        self._touched = -math.inf
        self._reserve = load_script(redis, "reserve")
        self._renew = load_script(redis, "renew")
        self._release = load_script(redis, "release")
        self._expired = load_script(redis, "expired")
        self._reap = load_script(redis, "reap")
        self._workers = load_script(redis, "workers")
        self._streams = load_script(redis, "streams")
        self._settling = load_script(redis, "settling")
        self._drain = load_script(redis, "drain")

    @property
    def settle(self) -> float:
        """Seconds in which the workers return their connections after Redis was emptied."""
        return self._settle

    async def renew(self, lease: Lease, connections: Sequence[LiveConnection]) -> Renewal:
        """Renew a worker's lease and all that it runs.

        A slot or record that Redis lost is made again; a reserved connection becomes live.
        """
        arguments: list[str | int] = [
            self._keys.registry,
            lease.worker_id,
            lease.model_dump_json(),
            lease.address,
            _ms(self._settings.lease_ttl),
            _ms(self._keep),
            _ms(self._settings.record_ttl),
        ]
        for connection in connections:
            arguments += (connection.connection_id, connection.session, connection.stream)
        answer = await self._renew(
            keys=[
                self._keys.epoch,
                self._keys.leases,
                self._keys.lease(lease.worker_id),
                self._keys.worker(lease.worker_id),
            ],
            args=arguments,
        )
        await self._touch(connections)
        left, reconnect, *closed = answer
        return Renewal(
            conflicts={
                connection_id: EndReason(reason)
                for connection_id, reason in zip(closed[::2], closed[1::2], strict=True)
            },
            drain=None if left < 0 else Drain(seconds=left / 1000, reconnect=bool(reconnect)),
        )

    async def drain(self, targets: Sequence[str], drain: Drain) -> None:
        """Have workers, or all workers of nodes, take no new connections and end.

        Nothing is reserved there from now on. A worker learns of it when it renews its lease.

        Args:
            targets: ids of workers and of Ray nodes.
        """
        await self._drain(
            keys=[self._keys.drain(target) for target in targets],
            args=[_ms(drain.seconds), int(drain.reconnect), _ms(DRAIN_TTL)],
        )

    async def undrain(self, target: str) -> None:
        """Take a request to drain back: a node that left is there again."""
        await self._redis.delete(self._keys.drain(target))

    async def draining(self, targets: Sequence[str]) -> set[str]:
        """Which of these workers or nodes were asked to drain within the last day."""
        if not targets:
            return set()
        asked = await self._redis.mget([self._keys.drain(target) for target in targets])
        return {target for target, drain in zip(targets, asked, strict=True) if drain}

    async def _touch(self, connections: Sequence[LiveConnection]) -> None:
        """Keep inputs and outputs of connections that are quiet: they expire with `record_ttl`."""
        now, ttl = time.monotonic(), _ms(self._settings.record_ttl)
        if now - self._touched < self._settings.record_ttl / 3:
            return
        for start in range(0, len(connections), READ_BATCH):
            await asyncio.gather(
                *(
                    self._redis.pexpire(key(connection.connection_id), ttl)
                    for connection in connections[start : start + READ_BATCH]
                    for key in (self._keys.inputs, self._keys.outputs)
                )
            )
        self._touched = now

    async def reserve(
        self,
        stream: str,
        limit: int,
        connection_id: str,
        exclude: Sequence[str] = (),
        resumed: int = 0,
    ) -> Reservation:
        """Take a slot for a new connection.

        The worker is the less loaded of two random ones that serve the stream and have a slot.

        Args:
            limit: connections the stream may have in the whole cluster.
            exclude: ids of workers that are not to be chosen.
            resumed: the session that may be replaced if it is the id's current one. Its slots are
                given back in the same step, to this connection if need be; it is then `replaced`
                of the reservation. When this raises, it goes on as if nothing had been asked.

        Raises:
            ConnectionAlreadyExists: the id is reserved or live.
            ConcurrencyLimitReached: the stream has `limit` connections.
            NoWorkerAvailable: no worker has a free slot, Redis lost its data a moment ago, or it
                does not answer within 3 s.
        """
        return await self._assign(stream, limit, connection_id, 0, exclude, resumed)

    async def move(self, reservation: Reservation, exclude: Sequence[str] = ()) -> Reservation:
        """Take a slot on another worker for the same connection, as a new session.

        The old slot is given back in the same step; the stream's slot is kept.

        Raises:
            ConnectionAlreadyExists: the id has been taken by another session.
            ConcurrencyLimitReached: the old session had ended, and its stream is full by now.
            NoWorkerAvailable: as for `reserve`, or the reservation has expired.
        """
        return await self._assign(
            reservation.stream, 0, reservation.connection_id, reservation.session, exclude, 0
        )

    async def _assign(
        self,
        stream: str,
        limit: int,
        connection_id: str,
        moved: int,
        exclude: Sequence[str],
        resumed: int,
    ) -> Reservation:
        try:
            async with asyncio.timeout(RESERVE_TIMEOUT):
                answer = await self._reserve(
                    keys=[
                        self._keys.epoch,
                        self._keys.leases,
                        self._keys.stream(stream),
                        self._keys.connection(connection_id),
                    ],
                    args=[
                        self._keys.registry,
                        connection_id,
                        stream,
                        limit,
                        moved,
                        secrets.token_hex(8),
                        _ms(self._settle),
                        _ms(self._settings.reservation_ttl),
                        _ms(self._keep),
                        secrets.randbelow(2**31),
                        resumed,
                        *exclude,
                    ],
                )
        except UNREACHABLE as error:
            raise NoWorkerAvailable("registry unreachable") from error
        match answer:
            case ["reserved", session, worker_id, address, *replaced]:
                taken = _reservation(connection_id, stream, session, worker_id, address)
                if not replaced[0]:
                    return taken
                old = _reservation(connection_id, stream, *replaced)
                return taken.model_copy(update={"replaced": old})
            case ["exists"]:
                raise ConnectionAlreadyExists
            case ["limit"]:
                raise ConcurrencyLimitReached(limit)
            case ["settling", remaining]:
                raise NoWorkerAvailable(
                    "registry is being rebuilt", retry_after=max(1, math.ceil(remaining / 1000))
                )
            case ["gone"]:
                raise NoWorkerAvailable("the reservation has expired")
            case _:
                raise NoWorkerAvailable

    async def release(self, connection_id: str, session: int, reason: EndReason) -> None:
        """End a connection: free its slots, keep `reason` for `record_ttl`.

        Does nothing when the session has ended or is not the current one.
        """
        await self._release(
            keys=[self._keys.connection(connection_id)],
            args=[
                self._keys.registry,
                connection_id,
                session,
                reason,
                _ms(self._settings.record_ttl),
            ],
        )

    async def find(self, connection_id: str) -> ConnectionRecord | None:
        """The record of a connection that is reserved, live, or ended within `record_ttl`."""
        fields: Any = await self._redis.hgetall(self._keys.connection(connection_id))
        return _record(connection_id, fields)

    async def known(self, connection_id: str, stream: str | None = None) -> ConnectionRecord:
        """`find` for callers that need a record.

        Just after Redis was emptied a live connection has none until its worker's next renewal, so
        an absent one is awaited for as long as the registry settles.

        Raises:
            UnknownConnection: there is none, or it is not one of `stream`.
        """
        deadline = time.monotonic() + self._settle
        while True:
            record = await self.find(connection_id)
            if record is not None:
                if stream not in (None, record.stream):
                    raise UnknownConnection
                return record
            remaining = await self.settling()
            if remaining <= 0 or time.monotonic() >= deadline:
                raise UnknownConnection
            await asyncio.sleep(min(0.2, remaining))

    async def settling(self) -> float:
        """Seconds until workers had time to return their connections, 0 when they had; nothing is
        reserved before."""
        return int(await self._settling(keys=[self._keys.epoch], args=[_ms(self._settle)])) / 1000

    async def begin(self) -> None:
        """Take the registry of a new Redis as complete: no worker has connections to return."""
        await self._redis.set(self._keys.epoch, 0, px=_ms(self._keep), nx=True)

    async def withdraw(self, worker_id: str, reason: EndReason) -> list[ConnectionRecord]:
        """Remove a worker that is known to be gone, and take it as draining should it come back.

        Returns its connections, ended so.
        """
        return await self._remove([worker_id], reason, DRAIN_TTL)

    async def expired(self) -> list[str]:
        """The workers whose lease has ended."""
        workers: list[str] = await self._expired(keys=[self._keys.leases])
        return workers

    async def reap(self, workers: Sequence[str]) -> list[ConnectionRecord]:
        """Remove those of some workers whose lease has ended. Returns their lost connections."""
        return await self._remove(workers, EndReason.WORKER_LOST, 0)

    async def _remove(
        self, workers: Sequence[str], reason: EndReason, banned: float
    ) -> list[ConnectionRecord]:
        ttls = _ms(self._settings.record_ttl), _ms(banned)
        rows = await self._reap(
            keys=[self._keys.leases], args=[self._keys.registry, reason, *ttls, *workers]
        )
        records = []
        for row in rows:
            fields = dict(zip(row[::2], row[1::2], strict=True))
            record = _record(fields.pop("id"), fields)
            if record is not None:
                records.append(record)
        return records

    async def workers(self) -> list[WorkerStatus]:
        """The workers whose lease has not ended, in no order."""
        rows = await self._workers(keys=[self._keys.leases], args=[self._keys.registry])
        return [
            WorkerStatus.model_validate({**json.loads(lease), "used": used, "reserved": reserved})
            for lease, used, reserved in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        ]

    async def connections(self) -> list[ConnectionRecord]:
        """All reserved and live connections. Reads every record: for people, not for loops."""
        workers: Any = await self._redis.zrange(self._keys.leases, 0, -1)
        held = await asyncio.gather(
            *(self._redis.zrange(self._keys.worker(worker_id), 0, -1) for worker_id in workers)
        )
        ids: list[Any] = [connection_id for members in held for connection_id in members]
        records = []
        for start in range(0, len(ids), READ_BATCH):
            batch = ids[start : start + READ_BATCH]
            rows: list[Any] = await asyncio.gather(
                *(self._redis.hgetall(self._keys.connection(one)) for one in batch)
            )
            for connection_id, fields in zip(batch, rows, strict=True):
                record = _record(connection_id, fields)
                if record is not None and record.state is not ConnectionState.CLOSED:
                    records.append(record)
        return records

    async def streams(self, names: Sequence[str]) -> list[StreamUsage]:
        """Live connections and reserved slots of streams, in the order of `names`."""
        if not names:
            return []
        counts = await self._streams(
            keys=[self._keys.stream(name) for name in names], args=[self._keys.registry]
        )
        return [
            StreamUsage(stream=name, connections=connections, reserved=reserved)
            for name, connections, reserved in zip(names, counts[::2], counts[1::2], strict=True)
        ]


def _reservation(
    connection_id: str, stream: str, session: int, worker_id: str, address: str
) -> Reservation:
    return Reservation(
        connection_id=connection_id,
        session=session,
        stream=stream,
        worker_id=worker_id,
        address=address,
    )


def _record(connection_id: str, fields: Mapping[str, str]) -> ConnectionRecord | None:
    if not fields:
        return None
    return ConnectionRecord(
        connection_id=connection_id,
        session=int(fields["session"]),
        stream=fields["stream"],
        worker_id=fields["worker"],
        address=fields["address"],
        state=ConnectionState(fields["state"]),
        reason=EndReason(fields["reason"]) if "reason" in fields else None,
        created=int(fields["created"]),
    )
