"""Lines of a connection say which one it is and who asked for it, those of its handler too."""

import asyncio
import io
import json
import logging
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from rayrtc import log_fields
from rayrtc.cluster.models import CandidateRequest, EndReason, InputEntry
from rayrtc.logs import JSONFormatter
from tests.clients import AiortcClient
from tests.workers.host import AsyncEcho, Echo, hosting, until

logger = logging.getLogger("tests.handler")


class Telling(Echo):
    """Logs on its threads."""

    def receive(self, frame: Any) -> None:
        if not self.heard.qsize():
            logger.info("receive")
        super().receive(frame)

    def emit(self) -> Any:
        logger.info("emit")
        try:
            return self.heard.get(timeout=0.2)
        except queue.Empty:
            return None

    def shutdown(self) -> None:
        logger.info("shutdown")


class AsyncTelling(AsyncEcho):
    """Logs on the loop, and in a task of its own."""

    async def start_up(self) -> None:
        await asyncio.create_task(self._tell("emit"))

    async def receive(self, frame: Any) -> None:
        await self._tell("receive")

    async def emit(self) -> None:
        await asyncio.sleep(0.1)

    async def shutdown(self) -> None:
        await self._tell("shutdown")

    async def _tell(self, what: str) -> None:
        logger.info(what)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What this process logs, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter({"worker_id": "w1"}))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("workers").setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    logging.getLogger("workers").setLevel(logging.NOTSET)


def logged(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("handler", [Telling, AsyncTelling])
async def test_lines_of_a_connection_and_its_handler(handler: Any, log: io.StringIO) -> None:
    async with hosting(handler()) as host:
        client = AiortcClient("")
        with log_fields.added(request_id="of-the-offer"):
            await host.call(client)
        with log_fields.added(request_id="of-the-candidate"):
            end = CandidateRequest(connection_id=client.webrtc_id, candidate=None)
        assert end.request_id == "of-the-candidate"
        with log_fields.added(request_id=end.request_id):
            await host.connections.candidate(end)
        await until(lambda: "receive" in log.getvalue())
        for kind in ("input", "close"):
            with log_fields.added(request_id=f"of-the-{kind}"):
                entry = InputEntry(kind=kind, connection_id=client.webrtc_id, session=1, seq=1)
            host.connections.deliver(entry)
        await until(lambda: host.reasons == [EndReason.SERVER_CLOSED])
        await client.close()
    by_message: dict[str, dict[str, Any]] = {}
    for line in logged(log):
        by_message.setdefault(line["message"], line)
    for message, request_id in (
        ("candidate taken", "of-the-candidate"),
        ("inputs taken", "of-the-input"),
        ("asked to close", "of-the-close"),
    ):
        assert by_message[message]["request_id"] == request_id
        assert by_message[message]["connection_id"] == client.webrtc_id
    for message in (
        "new -> connecting",
        "connecting -> connected",
        "receive",
        "emit",
        "shutdown",
        "ended: server_closed",
    ):
        line = by_message[message]
        assert line["request_id"] == "of-the-offer", message
        assert line["connection_id"] == client.webrtc_id, message
        assert (line["worker_id"], line["stream"], line["session"]) == ("w1", "test", 1), message
    assert not log_fields.current()
