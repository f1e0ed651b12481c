"""The one place where names inside aiortc and aioice are replaced, and the list of all of them.

Both packages are pinned; `tests/workers/test_patches.py` fails when a name has gone or changed its
shape.
"""

import aioice.ice
import aioice.turn
import aiortc.codecs.g711
import aiortc.codecs.g722
import aiortc.rtcicetransport
import aiortc.rtcpeerconnection
from aiortc import MediaStreamTrack, RTCDtlsTransport, RTCRtpReceiver, RTCRtpSender

from workers import allocations, handshakes
from workers.audio_receiver import AudioReceiver
from workers.audio_sender import AudioSender
from workers.ice_connection import create_connection
from workers.resampler import Resampler
from workers.udp_mux import selected_mux
from workers.video_receiver import VideoReceiver
from workers.video_sender import VideoSender

REPLACED = (
    "aioice.ice.Connection.check_incoming",
    "aioice.turn.TurnClientMixin.delete",
    "aiortc.codecs.g711.AudioResampler",
    "aiortc.codecs.g722.AudioResampler",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._do_handshake",
    "aiortc.rtcicetransport.Connection",
    "aiortc.rtcpeerconnection.RTCRtpReceiver",
    "aiortc.rtcpeerconnection.RTCRtpSender",
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
    "aiortc.clock.current_datetime",
    "aiortc.clock.current_ms",
    "aiortc.codecs.depayload",
    "aiortc.codecs.get_decoder",
    "aiortc.codecs.get_encoder",
    "aiortc.codecs.is_rtx",
    "aiortc.exceptions.OperationError",
    "aiortc.jitterbuffer.JitterFrame",
    "aiortc.rate.RemoteBitrateEstimator",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._register_rtp_receiver",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._register_rtp_sender",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._unregister_rtp_receiver",
    "aiortc.rtcdtlstransport.RTCDtlsTransport._unregister_rtp_sender",
    "aiortc.rtcdtlstransport.State",
    "aiortc.rtcrtpreceiver.StreamStatistics",
    "aiortc.rtp.RtcpPsfbPacket",
    "aiortc.rtp.RtcpRtpfbPacket",
    "aiortc.rtp.RtcpSrPacket",
    "aiortc.rtp.pack_remb_fci",
    "aiortc.rtp.unpack_remb_fci",
    "aiortc.rtcicetransport.connection_kwargs",
    "aiortc.sdp.SessionDescription.parse",
    "aiortc.utils.random16",
    "aiortc.utils.random32",
)
"""What other modules of this package use beyond aiortc's documented interface."""


def apply() -> None:
    """Fit aiortc to a worker process. May be called again.

    Peer connections share the worker's UDP port where one is selected, and then their media is sent
    and received by classes of this package. aiortc's resampling starts no threads, what ICE and
    DTLS lose is sent again soon, and a TURN server that has gone silent does not keep connections
    from closing.
    """
    aiortc.rtcicetransport.Connection = create_connection  # type: ignore[attr-defined,assignment]
    aiortc.rtcpeerconnection.RTCRtpReceiver = create_receiver  # type: ignore[attr-defined,assignment]
    aiortc.rtcpeerconnection.RTCRtpSender = create_sender  # type: ignore[attr-defined,assignment]
    for codec in (aiortc.codecs.g711, aiortc.codecs.g722):
        codec.AudioResampler = Resampler  # type: ignore[attr-defined]
    aioice.ice.Connection.check_incoming = handshakes.check_incoming  # type: ignore[method-assign]
    RTCDtlsTransport._do_handshake = handshakes.do_handshake  # type: ignore[method-assign]
    aioice.turn.TurnClientMixin.delete = allocations.delete  # type: ignore[method-assign]


def create_receiver(
    kind: str, transport: RTCDtlsTransport
) -> RTCRtpReceiver | AudioReceiver | VideoReceiver:
    """In place of aiortc's class in its peer connection, for the worker's own calls."""
    if selected_mux() is None:
        return RTCRtpReceiver(kind, transport)
    return AudioReceiver(transport) if kind == "audio" else VideoReceiver(transport)


def create_sender(
    what: MediaStreamTrack | str, transport: RTCDtlsTransport
) -> RTCRtpSender | AudioSender | VideoSender:
    """In place of aiortc's class in its peer connection, for the worker's own calls."""
    if selected_mux() is None:
        return RTCRtpSender(what, transport)
    track = None if isinstance(what, str) else what
    kind = what if track is None else track.kind
    return AudioSender(track, transport) if kind == "audio" else VideoSender(track, transport)
