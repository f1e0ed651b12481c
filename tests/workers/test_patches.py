"""The names inside aiortc and aioice that a new version of them could take away."""

import fractions
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioice.ice
import aiortc
import aiortc.codecs
import aiortc.rtcicetransport
import av
import numpy as np
import pytest
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import compute_audio_level_dbov

from workers import patches
from workers.ice_connection import SharedPortConnection
from workers.packet_order import PacketOrder
from workers.resampler import Resampler
from workers.udp_mux import UDPMux

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


def test_aiortc_and_aioice_ask_for_what_is_replaced() -> None:
    """A rename would leave each call with sockets of its own, and no test would see it connect."""
    gatherer = inspect.getsource(aiortc.rtcicetransport.RTCIceGatherer)
    assert "= Connection(" in gatherer
    gather = inspect.getsource(aioice.ice.Connection.gather_candidates)
    assert "self.get_component_candidates(component=component, addresses=addresses)" in gather
    close = inspect.getsource(aioice.ice.Connection.close)
    assert "await protocol.close()" in close
    shape = inspect.signature(aioice.ice.Connection.get_component_candidates)
    assert list(shape.parameters) == ["self", "component", "addresses", "timeout"]
    shape = inspect.signature(aioice.ice.StunProtocol.request)
    parameters = ["self", "request", "addr", "integrity_key", "retransmissions"]
    assert list(shape.parameters) == parameters


async def test_peer_connections_of_handlers_keep_sockets_of_their_own() -> None:
    """Only the worker's own share its port: two ends of one call cannot."""
    patches.apply()
    mux = UDPMux(lambda: ("127.0.0.1",))
    try:
        with mux.selected():
            shared = aiortc.RTCIceGatherer([])
        own = aiortc.RTCIceGatherer([])
        assert isinstance(shared._connection, SharedPortConnection)
        assert type(own._connection) is aioice.ice.Connection
    finally:
        mux.close()


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
