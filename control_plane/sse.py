"""Outputs of a connection as Server-Sent Events (HTML Living Standard, 9.2)."""

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Literal, TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

from control_plane.limits import SEND_TIMEOUT, disconnected
from control_plane.metrics import Metrics
from rayrtc.cluster import codec
from rayrtc.cluster.models import EndReason, OutputEntry
from rayrtc.cluster.outputs import Gap, Heartbeat
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.cluster.redis_time import RedisTime
from rayrtc.errors import NoWorkerAvailable, UnknownConnection

logger = logging.getLogger(__name__)

T = TypeVar("T")

Form = Literal["updates", "outputs"]
"""The two shapes in which outputs are sent."""
Item = OutputEntry | Gap | Heartbeat
"""What a reader of outputs gets."""
RETRY = (500, 2500)
"""Milliseconds, from and to, after which a client comes back that lost its stream."""
LAST_SEND_TIMEOUT = 1.0
"""Seconds that the end of a stream may take to leave."""

CURSOR = r"^([0-9]{1,15}-[0-9]{1,15})?$"
"""Pattern of `Last-Event-ID`: a Redis stream id, small enough for 64 bits; empty is none."""

_NEWLINE = re.compile(r"\r\n|\r|\n")


def event(data: str, *, id: str | None = None, name: str | None = None) -> bytes:
    """One event. `data` may have several lines; the client gets them joined by newlines."""
    lines = [] if id is None else [f"id: {id}"]
    if name is not None:
        lines.append(f"event: {name}")
    lines.extend(f"data: {line}" for line in _NEWLINE.split(data))
    # a lone surrogate cannot be sent as UTF-8
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


async def events(
    entries: AsyncGenerator[Item, None],
    first: Item | None,
    cursor: str | None,
    form: Form,
    metrics: Metrics,
    time: RedisTime,
) -> AsyncGenerator[bytes, None]:
    """The encoded events of a connection until its end.

    Args:
        entries: what `OutputHub.read` gives after `cursor`; closed at the end.
        first: what was taken from `entries` already, if anything.
        form: `updates` are unnamed events of the first argument, a string as it is and anything
            else as JSON; `outputs` are events `output` of all arguments as a JSON list.
    """
    async with aclosing(entries):
        # clients of a replica that went away come back spread over time
        yield f"retry: {random.randint(*RETRY)}\n\n".encode()
        last = cursor
        item = first
        try:
            while True:
                if isinstance(item, Heartbeat):
                    yield b": heartbeat\n\n"
                elif isinstance(item, Gap):
                    metrics.gaps.inc()
                    missing = {"after": item.after, "next": item.next}
                    yield event(json.dumps(missing), id=last, name="gap")
                elif item is not None:
                    last = item.id
                    if item.kind == "end":
                        yield _end(item.reason, last)
                        return
                    metrics.outputs.inc()
                    encoded = _output(item, form)
                    if (delay := time.since(item.at)) is not None:
                        metrics.output_delay.observe(delay)
                    yield encoded
                item = await anext(entries, None)
                if item is None:
                    return
        except UnknownConnection:
            # it was there when the request came
            yield _end(EndReason.EXPIRED, last)


def _end(reason: EndReason | None, id: str | None) -> bytes:
    return event(json.dumps({"reason": reason or EndReason.EXPIRED}), id=id, name="end")


def _output(entry: OutputEntry, form: Form) -> bytes:
    args = plain(entry)
    if form == "outputs":
        return event(json.dumps(args, ensure_ascii=False), id=entry.id, name="output")
    first = args[0] if args else None
    text = first if isinstance(first, str) else json.dumps(first, ensure_ascii=False)
    return event(text, id=entry.id)


def plain(entry: OutputEntry) -> list[Any]:
    """The arguments of an output as JSON data."""
    return [codec.to_json(value) for value in codec.decode(entry.args)]


class Readers:
    """The event streams that are open at a replica.

    Args:
        most: so many at a time.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._gauge = metrics.sse_clients
        self._open = 0
        self.stopping = asyncio.Event()
        """Set when the server shuts down."""

    def check(self) -> None:
        """Whether one more can be opened.

        Raises:
            NoWorkerAvailable: this replica has its most, or stops.
        """
        if self._open >= self._most or self.stopping.is_set():
            raise NoWorkerAvailable("this replica takes no more event streams")

    @contextmanager
    def one(self, form: Form) -> Iterator[None]:
        """Count one stream while it is open."""
        self._open += 1
        self._gauge.labels(form).inc()
        try:
            yield
        finally:
            self._open -= 1
            self._gauge.labels(form).dec()

    async def until_stopping(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, unless the server shuts down meanwhile.

        Raises:
            NoWorkerAvailable: it does.
        """
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise NoWorkerAvailable("this replica stops")
            return task.result()
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.wait({task, stop})


class EventStream(Response):
    """A response that ends with its events, its client or its server, whichever is first.

    Args:
        chunks: the encoded events.
        readers: counts the stream and tells when the server stops; the client reconnects elsewhere.
        form: under which it is counted.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes, None], readers: Readers, form: Form) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._chunks = chunks
        self._readers = readers
        self._form: Form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with self._readers.one(self._form):
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            writer = asyncio.create_task(self._write(send))
            tasks = {
                writer,
                asyncio.create_task(disconnected(receive)),
                asyncio.create_task(self._readers.stopping.wait()),
            }
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            if not writer.cancelled() and (error := writer.exception()) is not None:
                if not isinstance(error, UNREACHABLE):
                    raise error
                # it was Redis or the client that did not answer; the cursor brings the client back
                logger.info("event stream ended: %r", error)
            try:
                async with asyncio.timeout(LAST_SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:
                logger.info("an event-stream client takes nothing")

    async def _write(self, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
