"""Hands remote ICE candidates to the worker of their connection (trickle ICE, RFC 8838)."""

import asyncio
from typing import Any

from control_plane.limits import CANDIDATE_WAIT
from control_plane.worker_client import WorkerClient, WorkerUnavailable
from rayrtc.cluster.arrivals import Arrivals
from rayrtc.cluster.models import CandidateRequest, ConnectionRecord, ConnectionState
from rayrtc.errors import ConnectionClosed, NoWorkerAvailable, UnknownConnection


class Candidates:
    """Finds the worker of a connection; a candidate that overtakes its offer waits for it.

    Args:
        timeout: seconds in which a worker has to answer.
    """

    def __init__(self, arrivals: Arrivals, workers: WorkerClient, timeout: float) -> None:
        self._arrivals = arrivals
        self._workers = workers
        self._timeout = timeout

    async def forward(
        self, stream: str, connection_id: str, candidate: dict[str, Any] | None
    ) -> None:
        """Hand over one candidate, None for the end of candidates.

        Raises:
            UnknownConnection: the stream has no such connection, nor had it one within 3 s.
            ConnectionClosed: it has ended.
            InvalidCandidate, TooLarge: told by the worker.
            NoWorkerAvailable: the connection's worker does not answer.
            RedisError: the registry cannot be reached.
        """
        request = CandidateRequest(connection_id=connection_id, candidate=candidate)
        try:
            async with asyncio.timeout(self._timeout):
                record = await self._find(stream, connection_id)
                while True:
                    try:
                        await self._workers.candidate(record.address, request, self._timeout)
                        return
                    except UnknownConnection:
                        # the offer may have moved on to another worker meanwhile
                        current = await self._find(stream, connection_id)
                        if current.session == record.session:
                            raise
                        record = current
        except (TimeoutError, WorkerUnavailable) as error:
            raise NoWorkerAvailable("the worker of the connection does not answer") from error

    async def _find(self, stream: str, connection_id: str) -> ConnectionRecord:
        record = await self._arrivals.known(connection_id, stream, CANDIDATE_WAIT)
        if record.state is ConnectionState.CLOSED:
            reason = record.reason
            raise ConnectionClosed(reason.value if reason else "")
        return record
