"""The names inside aiortc and aioice that a new version of them could take away."""

import fractions
import importlib
import inspect
from pathlib import Path

import aioice.ice
import aiortc
import aiortc.codecs
import aiortc.rtcdtlstransport
import aiortc.rtcicetransport
import av
import numpy as np
import pytest

from workers import patches
from workers.audio_receiver import AudioReceiver
from workers.audio_sender import AudioSender
from workers.ice_connection import SharedPortConnection
from workers.resampler import Resampler
from workers.udp_mux import UDPMux
from workers.video_receiver import VideoReceiver
from workers.video_sender import VideoSender

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


async def test_the_state_of_a_transport_is_where_senders_look() -> None:
    """Elsewhere, nothing would be sent."""
    transport = aiortc.RTCDtlsTransport(
        aiortc.RTCIceTransport(aiortc.RTCIceGatherer([])),
        [aiortc.RTCCertificate.generateCertificate()],
    )
    assert transport._state is aiortc.rtcdtlstransport.State.NEW


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


@pytest.mark.skipif(not TASKS.exists(), reason="counts threads in /proc")
def test_resampling_for_an_encoder_starts_no_threads() -> None:
    """PyAV's resampler starts one thread a CPU, for every connection."""
    patches.apply()
    before = len(list(TASKS.iterdir()))
    codecs = [c for c in aiortc.codecs.CODECS["audio"] if c.mimeType != "audio/opus"]
    assert len(codecs) == 3
    for codec in codecs:
        encoder = aiortc.codecs.get_encoder(codec)
        assert isinstance(encoder.resampler, Resampler)
        for pts in (0, 960, 1920):
            sent = frame(np.zeros(1920, np.int16))
            sent.pts = pts
            coded, _ = encoder.encode(sent)
        assert coded
    assert len(list(TASKS.iterdir())) <= before


async def test_the_workers_own_calls_have_its_senders_and_receivers() -> None:
    """A rename in aiortc would leave them with aiortc's, and no test would hear it."""
    patches.apply()
    mux = UDPMux(lambda: ("127.0.0.1",))
    try:
        with mux.selected():
            shared = aiortc.RTCPeerConnection().addTransceiver("audio")
            video = aiortc.RTCPeerConnection().addTransceiver("video")
        own = aiortc.RTCPeerConnection().addTransceiver("audio")
    finally:
        mux.close()
    assert isinstance(shared.sender, AudioSender)
    assert isinstance(shared.receiver, AudioReceiver)
    assert isinstance(video.sender, VideoSender)
    assert isinstance(video.receiver, VideoReceiver)
    assert type(own.sender) is aiortc.RTCRtpSender
    assert type(own.receiver) is aiortc.RTCRtpReceiver
