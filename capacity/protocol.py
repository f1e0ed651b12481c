"""What the command and the processes that make its load tell each other, each a line of JSON."""

from typing import Literal

from pydantic import BaseModel

Transport = Literal["webrtc", "websocket"]


class Target(BaseModel):
    """The stream that is called, and how."""

    url: str
    """Where it is mounted, without a slash at the end."""
    transport: Transport = "webrtc"
    headers: dict[str, str] = {}
    addresses: list[str] = []
    """Of this machine, that calls offer."""
    sample_rate: int = 48000
    """Of what is sent over WebSocket, Hz."""
    media: bool = False
    """Whether the handler sends anything soon after a call has begun."""
    echo: bool = False
    """Whether it plays back what it hears."""


class Command(BaseModel):
    """What a process is to do next: have so many calls, or measure those that it has."""

    calls: int | None = None
    every: float = 0.0
    """Seconds between the beginnings of two new calls."""
    measure: float | None = None
    """Seconds."""


class Calls(BaseModel):
    """What came of making calls."""

    live: int = 0
    answer: list[float] = []
    """Seconds from each offer to its answer."""
    media: list[float] = []
    """Seconds from each offer to the first media, or until media can flow where the handler sends
    none."""
    failed: dict[str, int] = {}
    """Calls that could not be made, by the error's code."""
    ended: dict[str, int] = {}
    """Calls that had ended since they were last looked at, by the server's reason."""
    full: str = ""
    """The code by which the deployment says that it has no room for more calls."""


class CallSample(BaseModel):
    """What one call went through while it was measured. None: it cannot be seen."""

    lost_up: float | None = None
    """Share of its packets that the server missed, by the server's reports."""
    lost_back: float | None = None
    """Share of the server's packets that did not come, or, of an echo, of its own."""
    late: float | None = None
    """Share of what came that was too late to be played."""
    gap: float | None = None
    """Seconds between two packets, 99th percentile."""


class Sample(BaseModel):
    """What one process measured."""

    calls: list[CallSample] = []
    round_trips: list[float] = []
    """Seconds, of some of the calls."""
    ended: dict[str, int] = {}
    """Calls that the server ended, by its reason."""
    late: float = 0.0
    """Seconds that this process sent its packets late, 99th percentile."""
    cpu: float = 0.0
    """Share of a core that this process took."""
    machine: float = 0.0
    """Share of all cores of its machine that was in use, by whatever."""


class Reply(BaseModel):
    """What a process tells. `live` alone is how far it is."""

    ready: bool = False
    live: int | None = None
    calls: Calls | None = None
    sample: Sample | None = None
    error: str | None = None
