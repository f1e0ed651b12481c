"""What a trace shows of an offer that the first worker does not take."""

import pytest

from rayrtc import tracing
from tests.control_plane.conftest import Replica, Workers, make_stream
from tests.control_plane.worker import refusing
from tests.otlp import Collector


async def test_workers_that_do_not_take_an_offer(
    replica: Replica, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        first, second = await workers(2)
        api = await replica(make_stream(concurrency_limit=1))
        first.offer = refusing(409, "refused")
        second.offer = refusing(409, "refused")
        assert (await api.offer("alice"))[0] == 503
        del second.offer
        del first.offer
        tracing.stop()
    spans = {span.name: span for span in collector.spans}
    sent = [span.name for span in collector.spans]
    assert sent == ["ask worker", "ask worker", "assign", "offer"]
    names = [name for name, _ in spans["assign"].events]
    assert names == ["reserved", "not taken", "moved", "not taken"]
    asked = [about["rayrtc.worker_id"] for _, about in spans["assign"].events]
    assert asked[0] == asked[1] != asked[2] == asked[3]
    assert "refused" in spans["assign"].events[1][1]["rayrtc.why"]
    for span in collector.spans:
        assert span.failed, span
    assert spans["offer"].attributes["rayrtc.request_id"]
    assert spans["offer"].attributes["error.type"] == "no_worker_available"
