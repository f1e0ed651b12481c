"""What operators and their probes ask of a replica."""

import asyncio

from fastapi import Response

from control_plane.bodies import Alive, Ready
from control_plane.limits import PROBE_TIMEOUT
from control_plane.metrics import CONTENT_TYPE_LATEST
from control_plane.replica import Replica
from rayrtc.cluster.models import WorkerState
from rayrtc.errors import NoWorkerAvailable


class Operations:
    """The endpoints of a replica itself, whatever its streams."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def healthz(self) -> Alive:
        """Whether the process answers."""
        return Alive()

    async def readyz(self) -> Ready:
        """Whether new connections can be served: Redis answers, is complete, a worker is ready."""
        registry = self._replica.services.cluster.registry
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                workers = await registry.workers()
                settling = await registry.settling()
        except TimeoutError as error:
            raise NoWorkerAvailable("Redis does not answer") from error
        # busy ones are no reason to take the replica, with its event streams, out of service
        ready = sum(worker.state is not WorkerState.DRAINING for worker in workers)
        if not ready:
            raise NoWorkerAvailable("no worker is ready")
        if settling:
            raise NoWorkerAvailable("the registry is being rebuilt")
        return Ready(workers=ready)

    async def metrics(self) -> Response:
        """Metrics of this replica and of the cluster, in Prometheus' text format."""
        registry = self._replica.services.cluster.registry
        text = await self._replica.metrics.scrape(registry, self._replica.streams)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
