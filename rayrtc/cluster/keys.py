"""Names of everything kept in Redis. In braces is the hash tag: one script touches one tag."""

from typing import Final


class Keys:
    """The keys of one cluster.

    All keys of the registry share the tag ``{registry}``, so that one script changes a slot, a
    stream's count and a record at once, on Redis Cluster too. What belongs to one connection or to
    one worker is tagged with its id and spreads over the cluster. The names after a connection's
    tag and after a worker's differ, because a client chooses its id and might choose a worker's.
    """

    def __init__(self, cluster: str) -> None:
        self._prefix: Final = cluster
        self.registry: Final = f"{cluster}:{{registry}}"
        """What all keys of the registry begin with; scripts add the rest."""
        self.epoch: Final = f"{self.registry}:epoch"
        """STRING, Unix ms: the first renewal since Redis was empty."""
        self.leases: Final = f"{self.registry}:leases"
        """ZSET, worker id by the Unix ms at which its lease ends."""

    def lease(self, worker_id: str) -> str:
        """HASH: `lease` (JSON), `address`, `live` (connections of the last renewal)."""
        return f"{self.registry}:lease:{worker_id}"

    def worker(self, worker_id: str) -> str:
        """ZSET of the worker's connection ids by the Unix ms at which their slot is free."""
        return f"{self.registry}:worker:{worker_id}"

    def drain(self, target: str) -> str:
        """STRING, the Unix ms by which a worker or node (its id) has to be empty, and 1 when its
        clients are to connect again at once."""
        return f"{self.registry}:drain:{target}"

    def stream(self, name: str) -> str:
        """ZSET of the stream's connection ids by the Unix ms at which their slot is free."""
        return f"{self.registry}:stream:{name}"

    def connection(self, connection_id: str) -> str:
        """HASH, the connection's record."""
        return f"{self.registry}:conn:{connection_id}"

    def worker_inputs(self, worker_id: str) -> str:
        """STREAM of the entries a worker reads."""
        return f"{self._prefix}:{{{worker_id}}}:worker-inputs"

    def inputs(self, connection_id: str) -> str:
        """HASH: `seq` and `args` of the connection's last inputs."""
        return f"{self._prefix}:{{{connection_id}}}:inputs"

    def places(self, connection_id: str) -> str:
        """LIST of the ids of outputs after which readers left."""
        return f"{self._prefix}:{{{connection_id}}}:places"

    def outputs(self, connection_id: str) -> str:
        """STREAM of the connection's outputs, and the channel that announces them."""
        return f"{self._prefix}:{{{connection_id}}}:outputs"
