"""What `rayrtc status` and `rayrtc config` print."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from redis.exceptions import RedisError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rayrtc.cluster.models import ConnectionRecord, WorkerStatus
from rayrtc.cluster.redis import RedisPools
from rayrtc.cluster.registry import Registry
from rayrtc.redis_url import masked
from rayrtc.settings import Settings

TIMEOUT = 5.0
"""Seconds that Redis may take for all of it."""


class Unreachable(Exception):
    """Redis does not answer, or not as this user."""


@dataclass(frozen=True)
class ClusterStatus:
    """The live workers and the live and reserved connections."""

    cluster: str
    workers: list[WorkerStatus]
    connections: list[ConnectionRecord]

    def to_json(self) -> dict[str, Any]:
        """For programs: the models of `rayrtc.cluster.models` as they are."""
        return {
            "cluster": self.cluster,
            "workers": [worker.model_dump(mode="json") for worker in self.workers],
            "connections": [record.model_dump(mode="json") for record in self.connections],
        }


async def read_status(settings: Settings) -> ClusterStatus:
    """Ask the registry.

    Raises:
        Unreachable: Redis does not answer within 5 s, or refuses.
    """
    pools = RedisPools(settings)
    try:
        async with asyncio.timeout(TIMEOUT):
            registry = Registry(pools.commands, settings)
            workers = await registry.workers()
            connections = await registry.connections()
    except (RedisError, OSError, TimeoutError) as error:
        why = str(error) or f"no answer within {TIMEOUT:g} s"
        raise Unreachable(f"Redis at {masked(settings.redis_url)}: {why}") from error
    finally:
        await pools.aclose()
    return ClusterStatus(
        settings.cluster,
        sorted(workers, key=lambda worker: (worker.host, worker.worker_id)),
        sorted(connections, key=lambda record: record.created),
    )


def print_status(status: ClusterStatus, console: Console) -> None:
    """Two tables, or a line where one would be empty."""
    if status.workers:
        table = Table(title=f"Workers of {status.cluster}", title_justify="left", box=SIMPLE_HEAD)
        for column in ("worker", "node", "address", "state"):
            table.add_column(column, overflow="fold")
        for column in ("used", "reserved", "slots", "load", "memory"):
            table.add_column(column, justify="right")
        for worker in status.workers:
            table.add_row(
                worker.worker_id,
                worker.node[:8],
                worker.address.removeprefix("http://"),
                worker.state,
                str(worker.used),
                str(worker.reserved),
                str(worker.slots),
                f"{worker.load:.2f}",
                f"{worker.memory / 2**20:.0f} MiB",
            )
        console.print(table)
    else:
        console.print(f"No workers in cluster {status.cluster}.")
    if status.connections:
        table = Table(title="Connections", title_justify="left", box=SIMPLE_HEAD)
        for column in ("connection", "stream", "worker", "state", "age"):
            table.add_column(column, overflow="fold")
        now = time.time()
        for record in status.connections:
            age = max(0, int(now - record.created / 1000))
            table.add_row(
                record.connection_id, record.stream, record.worker_id, record.state, f"{age} s"
            )
        console.print(table)
    else:
        console.print("No connections.")


def print_settings(settings: Settings, console: Console) -> None:
    """Every option on two lines, those that were set in bold with the default beside them."""
    for name, field in type(settings).model_fields.items():
        value, default = shown(getattr(settings, name)), shown(field.default)
        line = Text(f"RAYRTC_{name.upper()}={value}")
        if name in settings.model_fields_set:
            line.stylize("bold")
            line.append(f"  (default {default or 'unset'})", style="not bold dim")
        console.print(line, soft_wrap=True)
        console.print(Padding(field.description or "", (0, 0, 0, 4)))


def shown(value: object) -> str:
    """A value as one would write it into the environment; secrets are masked."""
    match value:
        case None:
            return ""
        case SecretStr():
            return "********"
        case tuple():
            return ",".join(map(str, value))
        case str():
            return masked(value)
    return str(value)
