"""What alerts watch is there before anything has happened, or they would miss the first event."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from prometheus_client import REGISTRY

from rayrtc import Stream
from tests.workers.host import AsyncEcho
from workers import first_series


def edges(frame: np.ndarray) -> np.ndarray:
    return frame


async def tune() -> AsyncIterator[Any]:
    yield None


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_series_of_each_stream_are_there_at_zero() -> None:
    first_series.begin(
        [
            Stream(AsyncEcho(), modality="audio", name="sound"),
            Stream(edges, modality="video", name="picture"),
            Stream(tune, modality="audio", mode="receive", name="radio"),
        ]
    )
    for reason in ("client_closed", "connect_timeout", "ice_failed"):
        assert (
            value(
                "rayrtc_worker_connections_ended_total",
                stream="sound",
                transport="webrtc",
                reason=reason,
            )
            == 0
        )
    for stream, handler, methods in (
        ("sound", "AsyncEcho", ("receive", "emit")),
        ("picture", "edges", ("video",)),
        ("radio", "tune", ("generator", "emit")),
    ):
        for method in methods:
            errors = value("rayrtc_worker_handler_errors_total", stream=stream, call=method)
            blocked = value(
                "rayrtc_worker_loop_blocked_seconds_total",
                stream=stream,
                handler=handler,
                method=method,
            )
            assert errors == blocked == 0, (stream, method)
    for kind in ("audio", "video"):
        for direction in ("received", "sent"):
            assert (
                value("rayrtc_worker_media_packets_lost_total", kind=kind, direction=direction)
                is not None
            )
