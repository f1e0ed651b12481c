"""The data that crosses between control plane, workers and Redis, versioned by `VERSION`."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rayrtc.log_fields import current_request_id

VERSION = 1
"""Raised when a model changes in a way that an older service cannot read."""

ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,128}$")]
"""`webrtc_id` or `websocket_id` as chosen by the client."""


class EndReason(StrEnum):
    """Why a connection ended; the same word in the API, the logs and the metrics."""

    CLIENT_CLOSED = "client_closed"
    SERVER_CLOSED = "server_closed"
    HANDLER_CLOSED = "handler_closed"
    HANDLER_ERROR = "handler_error"
    TIME_LIMIT = "time_limit"
    CONNECT_TIMEOUT = "connect_timeout"
    ICE_FAILED = "ice_failed"
    REFUSED = "refused"
    REPLACED = "replaced"
    WORKER_LOST = "worker_lost"
    WORKER_STOPPED = "worker_stopped"
    OUT_OF_MEMORY = "out_of_memory"
    DRAINED = "drained"
    """The worker had to go; another one takes the client."""
    EXPIRED = "expired"


class WorkerState(StrEnum):
    """Whether a worker takes new connections."""

    READY = "ready"
    BUSY = "busy"
    """Not now: its CPU or event loop is above `load_max`, though it may have slots."""
    DRAINING = "draining"
    """Never again: it ends when its connections have."""


class ConnectionState(StrEnum):
    """What the registry knows of a connection."""

    RESERVED = "reserved"
    LIVE = "live"
    CLOSED = "closed"


class Model(BaseModel):
    """Base of all messages: unknown members of a newer sender are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Lease(Model):
    """What a worker says of itself, renewed every `lease_interval`."""

    version: int = VERSION
    worker_id: str
    node: str
    """Ray node id (hex)."""
    host: str
    """Address of the node."""
    address: str
    """Base URL of the worker's internal server, `http://HOST:PORT`."""
    slots: int
    streams: tuple[str, ...]
    state: WorkerState = WorkerState.READY
    load: float = 0.0
    """0 idle to 1 full: the largest of CPU share, memory share and event-loop lag over 20 ms."""
    lag: float = 0.0
    """Mean lag of the event loop, seconds."""
    memory: int = 0
    """Resident bytes."""
    pid: int = 0
    started: int = 0
    """Unix time in ms."""
    code_version: str = ""
    """Generation of the handler code; differs after a reload."""
    spare: bool = False
    """The pool has more workers than it needs: it takes calls when the others cannot."""


class Drain(Model):
    """What a worker that has to go is asked for."""

    seconds: float
    """After these, what is left is closed."""
    reconnect: bool = False
    """Close what there is now: clients that connect again get another worker."""


class Renewal(Model):
    """What the registry answers to a worker that renews its lease.

    `conflicts` are the connections that it must close, and why: their id has a newer session
    (`replaced`), or this session was ended by somebody else.
    """

    conflicts: dict[str, EndReason] = {}
    drain: Drain | None = None


class LiveConnection(Model):
    """A connection as its worker renews it."""

    connection_id: str
    session: int
    stream: str


class ConnectionRecord(LiveConnection):
    """A connection as the registry knows it."""

    worker_id: str
    address: str
    """Base URL of its worker's internal server."""
    state: ConnectionState
    reason: EndReason | None = None
    created: int
    """Unix time in ms of the reservation."""


class Reservation(Model):
    """A slot that is held for a connection until its worker confirms it.

    `session` tells apart two connections that use one id after each other. It is the Unix time in
    ms of the reservation and grows with every session of an id: the first half of output ids.
    """

    connection_id: str
    session: int
    stream: str
    worker_id: str
    address: str
    replaced: "Reservation | None" = None
    """The session whose place this one took; its worker is still to be told."""


class WorkerStatus(Lease):
    """A lease with what the registry counts for it."""

    used: int
    reserved: int


class StreamUsage(Model):
    """Connections of one stream over the whole cluster."""

    stream: str
    connections: int
    reserved: int


class WorkerRequest(Model):
    """What every request of the control plane to a worker has."""

    version: int = VERSION
    request_id: str = Field(default_factory=current_request_id)
    """Of the client's request that caused it, for the logs; empty when there is none."""


class ConnectionRequest(WorkerRequest):
    """Control plane to worker: a new connection, whatever its transport."""

    connection_id: str
    session: int
    stream: str
    inputs: str | None = None
    """The last inputs of this id, encoded (see `rayrtc.cluster.codec`)."""
    inputs_seq: int = 0


class OfferRequest(ConnectionRequest):
    """Control plane to worker: `POST /v1/offer`."""

    sdp: str


class SocketRequest(ConnectionRequest):
    """Control plane to worker: the first frame of `GET /v1/websocket`; then the client's follow."""

    transport: Literal["websocket", "telephone"]


class OfferAnswer(Model):
    """Worker to control plane: the answer."""

    sdp: str
    type: Literal["answer"] = "answer"


class CandidateRequest(WorkerRequest):
    """Control plane to worker: `POST /v1/candidate`.

    `candidate` is RTCIceCandidate.toJSON() or None.
    """

    connection_id: str
    candidate: dict[str, Any] | None = None


class ReleaseRequest(WorkerRequest):
    """Control plane to worker: `POST /v1/release`: this session is over.

    Given up before its client had an answer (`refused`), which is answered at once, or to end, by
    its client or because a newer one takes its place. That is answered when it has ended, after
    1.5 s at the latest.
    """

    connection_id: ConnectionId
    session: int
    reason: EndReason = EndReason.REFUSED


class WorkerRefusal(Model):
    """Worker to control plane: any answer but 200. `code`: one of `rayrtc.errors` or `refused`."""

    code: str
    detail: str = ""


class SocketAnswer(Model):
    """Worker to control plane: the first frame of a WebSocket. Frames for the client follow."""

    refusal: WorkerRefusal | None = None


class InputEntry(Model):
    """One entry of a worker's input stream."""

    version: int = VERSION
    kind: Literal["input", "close"]
    connection_id: str
    session: int
    seq: int = 0
    """Grows with every input of an id: an entry that is older than the last one seen is dropped."""
    args: str = "[]"
    """Encoded list of arguments."""
    at: int | None = None
    """Redis' time when it was given, Unix ms."""
    request_id: str = Field(default_factory=current_request_id)
    """Of the client's request that gave it, for the logs; empty when there is none."""


class OutputEntry(Model):
    """One entry of a connection's output stream; its Redis id is `SESSION-N`, N = 1, 2, 3, ..."""

    id: str
    kind: Literal["output", "end"]
    args: str = Field("[]", description="Encoded list of arguments; for `end` empty.")
    reason: EndReason | None = None
    at: int | None = None
    """Redis' time when its worker put it out, Unix ms; None also for what was there before its
    reader came."""
