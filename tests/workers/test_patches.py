"""The names inside aiortc and aioice that a new version of them could take away."""

import asyncio
import fractions
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioice.ice
import aiortc.codecs
import av
import numpy as np
import pytest
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import compute_audio_level_dbov

from workers import patches
from workers.packet_order import PacketOrder
from workers.resampler import Resampler

TASKS = Path("/proc/self/task")
"""One entry for each thread of this process, those of C libraries too; on Linux."""


def resolve(path: str) -> object:
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(path)


def frame(samples: np.ndarray, layout: str = "stereo") -> av.AudioFrame:
    made = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
    made.sample_rate = 48000
    made.time_base = fractions.Fraction(1, 48000)
    return made


@pytest.mark.parametrize("name", [*patches.REPLACED, *patches.USED])
def test_every_name_that_is_replaced_or_used_exists(name: str) -> None:
    assert callable(resolve(name))


def test_aioice_asks_the_module_for_its_addresses() -> None:
    source = inspect.getsource(aioice.ice.Connection.gather_candidates)
    assert "get_host_addresses(" in source


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(("127.0.0.1",), {"127.0.0.1"}), (("127.0.0.1", "::1"), {"127.0.0.1", "::1"})],
)
async def test_candidates_are_offered_for_the_given_addresses_alone(
    addresses: tuple[str, ...], expected: set[str]
) -> None:
    patches.apply(addresses)
    connection = aioice.ice.Connection(ice_controlling=False)
    async with asyncio.timeout(5):
        await connection.gather_candidates()
    assert {candidate.host for candidate in connection.local_candidates} == expected
    await connection.close()


def test_loopback_is_offered_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_host_addresses", lambda use_ipv4, use_ipv6: [])
    patches.apply()
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == ["127.0.0.1"]


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="eth0"):
        patches.apply(("eth0",))


@pytest.mark.parametrize("amplitude", [0, 1, 100, 5000, 32767])
def test_the_audio_level_is_aiortcs(amplitude: int) -> None:
    wave = np.sin(np.arange(960) / 7) * amplitude
    sent = frame(wave.astype(np.int16), "mono")
    assert abs(patches.audio_level(sent) - compute_audio_level_dbov(sent)) <= 1


@pytest.mark.skipif(not TASKS.exists(), reason="counts threads in /proc")
def test_resampling_for_an_encoder_starts_no_threads() -> None:
    """PyAV's resampler starts one thread a CPU, for every connection."""
    patches.apply()
    before = len(list(TASKS.iterdir()))
    encoders = [aiortc.codecs.get_encoder(aiortc.codecs.CODECS["audio"][0]) for _ in range(4)]
    for encoder in encoders:
        assert isinstance(encoder.resampler, Resampler)
        sent = frame(np.zeros(1920, np.int16))
        sent.pts = 0
        assert encoder.resampler.resample(sent)
    assert len(list(TASKS.iterdir())) <= before


def test_opus_packets_after_a_gap_have_the_time_of_their_frame() -> None:
    """One that seems to be late by the gap makes Chromium delay all sound by about as much."""
    patches.apply()
    encoder = aiortc.codecs.get_encoder(aiortc.codecs.CODECS["audio"][0])
    times = [0, 960, 1920, 60_000, 60_960, 200_000]
    stamps = []
    for time in times:
        sent = frame(np.full(1920, 1000, np.int16))
        sent.pts = time
        payloads, stamp = encoder.encode(sent)
        assert len(payloads) == 1
        stamps.append(stamp)
    assert stamps == times


async def test_a_receiver_of_audio_does_not_hold_it_back() -> None:
    patches.apply()
    transport: Any = SimpleNamespace(state="new")
    buffers = [
        aiortc.rtcrtpreceiver.RTCRtpReceiver(kind, transport)._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
        for kind in ("audio", "video")
    ]
    assert isinstance(buffers[0], PacketOrder)
    assert isinstance(buffers[1], JitterBuffer)
