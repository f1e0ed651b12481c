"""Series of a worker that are there from its start, at zero.

To Prometheus one that appears with its first event has not grown: no rate and no alert would see
that event.
"""

from collections.abc import Iterable

from rayrtc.cluster.models import EndReason
from rayrtc.handlers import StreamHandlerBase
from rayrtc.stream import Stream
from workers import media_metrics, watchdog
from workers.calls import name_of
from workers.connection import connect_time, ended
from workers.runtime import handler_errors

METHODS = ("receive", "emit", "video_receive", "video_emit")
"""Of handlers: those that are called for as long as a connection lasts."""


def begin(streams: Iterable[Stream]) -> None:
    """Make the series of what alerts watch. Streams may begin more than once."""
    for stream in streams:
        for method in _methods(stream):
            handler_errors.labels(stream.name, method)
            labels = (stream.name, name_of(stream.handler), method)
            watchdog.blocks.labels(*labels)
            watchdog.blocked_seconds.labels(*labels)
        connect_time.labels(stream.name, "webrtc")
        for reason in EndReason:
            ended.labels(stream.name, "webrtc", reason)
        for kind in stream.modality.split("-"):
            for counter in (
                media_metrics.packets_total,
                media_metrics.bytes_total,
                media_metrics.lost_total,
            ):
                counter.labels(kind, "received")
                counter.labels(kind, "sent")


def _methods(stream: Stream) -> tuple[str, ...]:
    if isinstance(stream.handler, StreamHandlerBase):
        return tuple(method for method in METHODS if hasattr(stream.handler, method))
    return ("generator", "emit") if stream.mode == "receive" else ("video",)
