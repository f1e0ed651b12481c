"""Offers and remote candidates of one stream, counted, whichever protocol they came by."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect

from control_plane.assignment import Assigned
from control_plane.replica import Replica
from rayrtc import log_fields, tracing
from rayrtc.cluster.models import OfferAnswer
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import NoWorkerAvailable, RayRTCError
from rayrtc.stream import Stream

logger = logging.getLogger(__name__)


@dataclass
class Count:
    """How an offer is counted that went well."""

    outcome: str = "answered"


class Signalling:
    """Hands offers and candidates to workers."""

    def __init__(self, replica: Replica, stream: Stream) -> None:
        self._replica = replica
        self._stream = stream

    @contextmanager
    def counting(self, connection_id: str) -> Iterator[Count]:
        """Count an offer by how the block ends."""
        metrics, name = self._replica.metrics, self._stream.name
        log_fields.add(connection_id=connection_id, stream=name)
        started = time.monotonic()
        outcome = RayRTCError.code
        try:
            count = Count()
            with tracing.span(
                "offer",
                "server",
                connection_id=connection_id,
                stream=name,
                request_id=log_fields.current_request_id(),
            ) as span:
                yield count
                span.set(outcome=count.outcome)
            outcome = count.outcome
        except RayRTCError as error:
            outcome = error.code
            logger.info("offer refused: %s", error)
            raise
        except UNREACHABLE:
            outcome = NoWorkerAvailable.code
            raise
        except (asyncio.CancelledError, ClientDisconnect):
            outcome = "cancelled"
            raise
        finally:
            metrics.offers.labels(name, outcome).inc()
            metrics.offer_seconds.labels(name).observe(time.monotonic() - started)

    async def offer(self, connection_id: str, sdp: str, resumed: int = 0) -> Assigned[OfferAnswer]:
        """The answer of the worker that took the connection. To be counted by the caller.

        `resumed` is as in `Assignment.offer`.

        Raises:
            RayRTCError, RedisError: as `Assignment.offer`.
        """
        return await self._replica.services.assignment.offer(
            self._stream.name,
            self._stream.concurrency_limit,
            connection_id,
            sdp,
            resumed,
        )

    async def candidate(self, connection_id: str, candidate: dict[str, Any] | None) -> None:
        """Hand over one remote candidate; None, or an empty one, is the end of them.

        Raises:
            RayRTCError, RedisError: as `Candidates.forward`.
        """
        log_fields.add(connection_id=connection_id, stream=self._stream.name)
        if candidate is not None and not candidate["candidate"]:
            candidate = None  # both mean the end of candidates (RFC 8838, 8.2)
        outcome = "cancelled"
        try:
            await self._replica.services.candidates.forward(
                self._stream.name, connection_id, candidate
            )
            outcome = "taken"
        except RayRTCError as error:
            outcome = error.code
            raise
        except UNREACHABLE:
            outcome = NoWorkerAvailable.code
            raise
        finally:
            self._replica.metrics.candidates.labels(outcome).inc()
