"""The one place where names inside aiortc and aioice are replaced, and the list of all of them.

Both packages are pinned; `tests/workers/test_patches.py` fails when a name has gone or changed its
shape.
"""

import aioice.ice
import aioice.turn
import aiortc.codecs.g711
import aiortc.codecs.g722
import aiortc.codecs.opus
import aiortc.rtcicetransport
import aiortc.rtp
import numpy as np
from aiortc import RTCDtlsTransport
from aiortc import rtcrtpreceiver as receiver
from aiortc.codecs.opus import SAMPLE_RATE, SAMPLES_PER_FRAME, OpusEncoder
from av.audio.frame import AudioFrame
from av.frame import Frame

from workers import allocations, handshakes
from workers.decoding import decode
from workers.ice_connection import create_connection
from workers.packet_order import create_jitter_buffer
from workers.resampler import Resampler

REPLACED = (
    "aioice.ice.Connection.check_incoming",
    "aioice.turn.TurnClientMixin.delete",
    "aiortc.codecs.g711.AudioResampler",
    "aiortc.codecs.g722.AudioResampler",
    "aiortc.codecs.opus.AudioResampler",
    "aiortc.codecs.opus.OpusEncoder.encode",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._do_handshake",
    "aiortc.rtcicetransport.Connection",
    "aiortc.rtcrtpreceiver.JitterBuffer",
    "aiortc.rtcrtpreceiver.decoder_worker",
    "aiortc.rtp.compute_audio_level_dbov",
)
"""What `apply` replaces."""

USED = (
    "aioice.candidate.candidate_foundation",
    "aioice.candidate.candidate_priority",
    "aioice.ice.Connection.data_received",
    "aioice.ice.Connection.build_request",
    "aioice.ice.Connection.get_component_candidates",
    "aioice.ice.Connection.query_consent",
    "aioice.ice.StunProtocol.connection_lost",
    "aioice.ice.StunProtocol.request",
    "aioice.ice.StunProtocol.send_data",
    "aioice.ice.server_reflexive_candidate",
    "aioice.stun.Transaction.__init__",
    "aioice.utils.random_string",
    "aiortc.exceptions.OperationError",
    "aiortc.rtcicetransport.connection_kwargs",
    "aiortc.sdp.SessionDescription.parse",
)
"""What other modules of this package use beyond aiortc's documented interface."""

_encode = OpusEncoder.encode


def apply() -> None:
    """Fit aiortc to a worker process. May be called again.

    Peer connections share the worker's UDP port where one is selected. aiortc's resampling starts
    no threads, the audio level of sent packets (RFC 6464) is computed by NumPy instead of a Python
    loop, Opus packets have the time of their frame, received audio is not held back, what waits for
    a decoder is bounded, what ICE and DTLS lose is sent again soon, and a TURN server that has gone
    silent does not keep connections from closing.
    """
    aiortc.rtcicetransport.Connection = create_connection  # type: ignore[attr-defined,assignment]
    for codec in (aiortc.codecs.g711, aiortc.codecs.g722, aiortc.codecs.opus):
        codec.AudioResampler = Resampler  # type: ignore[attr-defined]
    receiver.JitterBuffer = create_jitter_buffer  # type: ignore[attr-defined,assignment]
    receiver.decoder_worker = decode  # type: ignore[assignment]
    OpusEncoder.encode = encode_opus  # type: ignore[method-assign]
    aiortc.rtp.compute_audio_level_dbov = audio_level
    aioice.ice.Connection.check_incoming = handshakes.check_incoming  # type: ignore[method-assign]
    RTCDtlsTransport._do_handshake = handshakes.do_handshake  # type: ignore[method-assign]
    aioice.turn.TurnClientMixin.delete = allocations.delete  # type: ignore[method-assign]


def audio_level(frame: AudioFrame) -> int:
    """Level of a frame of 16-bit samples in dBov, -127 (silence) to 0 (RFC 6465, appendix A)."""
    samples = frame.to_ndarray().astype(np.float32)
    rms = float(np.sqrt(np.mean(np.square(samples)))) / 32767
    if rms <= 0:
        return -127
    return round(min(max(20 * float(np.log10(rms)), -127.0), 0.0))


def encode_opus(
    self: OpusEncoder, frame: Frame, force_keyframe: bool = False
) -> tuple[list[bytes], int]:
    """The packets that are complete with `frame`, and the RTP time of the first.

    FFmpeg stamps the first packet after a gap with the end of the one before the gap. It would seem
    late by the whole gap, and Chromium's jitter buffer would grow by as much.
    """
    payloads, timestamp = _encode(self, frame, force_keyframe)
    if (
        isinstance(frame, AudioFrame)
        and (frame.samples, frame.sample_rate) == (SAMPLES_PER_FRAME, SAMPLE_RATE)
        and frame.pts is not None
        and frame.time_base is not None
        and payloads
    ):
        timestamp = round(frame.pts * frame.time_base * SAMPLE_RATE)
    return payloads, timestamp
