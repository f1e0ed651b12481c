"""What a benchmark tells the process that makes its load, and what that answers."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Load(BaseModel):
    """Callers of one stream and what they do."""

    kind: Literal["audio", "video", "websocket", "signalling", "inputs", "outputs"] = "audio"
    url: str
    content: Literal["speech", "silence", "talk"] = "speech"
    connections: int = Field(1, ge=1)
    warmup: float = 3.0
    """Seconds of media before the measurement."""
    seconds: float = 10.0
    readers: int = 0
    """Readers of event streams for each connection."""
    echoes: bool = True
    """Whether the server sends as much as it is sent."""


class Result(BaseModel):
    """What the callers saw while the measurement ran."""

    sent: int
    received: int
    """Packets of audio, frames of video, messages of a WebSocket."""
    least: float = 1.0
    """Received by sent of the caller that got the least."""
    generator_cpu: float = 0.0
    """CPU seconds of this process meanwhile."""
    late_p99: float = 0.0
    """Seconds that the callers' packets were sent late."""
    round_trips: list[float] = []
    """Seconds from the packet that a marker is in to the one that it comes back in."""
    markers: int = 0
    """Markers that were sent."""
    bitrate: float = 0.0
    """Received by one caller, bit/s of payload."""
    psnr: float | None = None
    """Luma of the received against the sent pictures, dB, median."""
    timings: dict[str, list[float]] = {}
    """Seconds of what this load is about, by name."""
    lost: int = 0
    """Packets that sequence numbers show to be missing."""


class Event(BaseModel):
    """A line on the generator's standard output."""

    event: Literal["connecting", "warmup", "begin", "end", "result", "error"]
    detail: Any = None
