"""The examples of video, of receiving and of sending, called by real clients."""

import json
from typing import Any

import numpy as np

from examples import level_meter, radio, video_effect
from rayrtc import Stream
from tests.workers.host import calling, hosting, peak, until
from tests.workers.test_combinations import set_input


def as_declared(stream: Stream) -> dict[str, Any]:
    return {"handler": stream.handler, "modality": stream.modality, "mode": stream.mode}


async def test_video_effect_draws_edges_as_the_slider_says() -> None:
    async with (
        hosting(**as_declared(video_effect.stream)) as host,
        calling(host, kinds=["video"]) as (client, connection),
    ):
        set_input(connection, 1, 0.0, True)
        await until(lambda: client.pictures and client.pictures[-1][:, 220:].mean() > 220)
        set_input(connection, 2, 1.0, False)
        # what is left of a flat picture with one vertical edge is a line in its middle
        await until(lambda: client.pictures[-1][:, 40:120].mean() < 40)
        assert client.pictures[-1][:, 158:163].mean() > 60


async def test_radio_plays_its_tune_and_names_its_notes() -> None:
    async with (
        hosting(**as_declared(radio.stream)) as host,
        calling(host, direction="recvonly") as (client, connection),
    ):
        set_input(connection, 1, 60)
        await until(lambda: client.samples_since(1.2) > 48000)
        assert abs(peak(client) - radio.NOTES["C"]) < 5
        assert [json.loads(text) for *_, text in host.recorder.outputs][:2] == [["C"], ["C"]]


async def test_level_meter_tells_the_level_of_a_tone() -> None:
    async with (
        hosting(**as_declared(level_meter.stream)) as host,
        calling(host) as (client, _),
    ):
        await until(lambda: len(host.recorder.outputs) >= 6)
        level = json.loads(host.recorder.outputs[-1][2])[0]
        # less the 3 dB that aiortc's encoder takes from mono on its way to stereo
        expected = 20 * np.log10(12000 / 32768) - 3
        assert abs(level["peak"] - expected) < 1.5
        assert abs(level["mean"] - (expected - 3)) < 1.5
        assert client.samples == []
