"""What a call leaves in the metrics of replicas and worker nodes."""

import math
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.clients import AiortcClient
from tests.e2e.sse import Reader
from tests.e2e.stack import Stack, wait_until
from tests.e2e.test_calls import post


def samples(url: str, name: str, **labels: str) -> list[float]:
    """Values of a metric's samples whose labels fit."""
    families = text_string_to_metric_families(httpx.get(url + "/metrics").text)
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


async def test_inputs_outputs_and_the_handler_are_timed(stack: Stack) -> None:
    """Over the whole way: the hook and the reader are at another replica than the offer."""
    a, b = stack.replicas["a"], stack.replicas["b"]
    node = f"http://127.0.0.1:{stack.metrics_port}"

    def total(url: str, name: str, **labels: Any) -> float:
        return sum(samples(url, name, **labels))

    inputs = total(node, "rayrtc_worker_input_relay_seconds_count")
    outputs = total(b, "rayrtc_output_relay_seconds_count")
    client = AiortcClient(a)
    await client.connect()
    reader = Reader(b + "/updates", client.webrtc_id)
    await reader.opened.wait()
    for number in range(3):
        body = {"webrtc_id": client.webrtc_id, "inputs": [number]}
        assert (await post(b + "/input_hook", body))[0] == 200
        await reader.wait_for(number + 1)
    await reader.close()
    await client.close()
    stream = {"stream": "default", "method": "receive"}
    wait_until(lambda: total(node, "rayrtc_worker_handler_seconds_count", **stream), 10, "calls")
    assert total(node, "rayrtc_worker_handler_busy_seconds_total", **stream) > 0
    assert total(node, "rayrtc_worker_input_relay_seconds_count") - inputs == 3
    assert total(b, "rayrtc_output_relay_seconds_count") - outputs == 3
    assert set(samples(node, "rayrtc_worker_drain_left_seconds")) == {math.inf}
