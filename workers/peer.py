"""The WebRTC side of a connection: aiortc's peer connection and the tracks each way."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError

from rayrtc.combinations import Mode
from rayrtc.errors import InvalidSDP, UnsupportedTrack
from workers.audio_receiver import AudioReceiver
from workers.channel import DataChannel
from workers.ice import uses_turn
from workers.offer import Offer
from workers.transport import Events, Log
from workers.video_receiver import VideoReceiver

CLOSE_TIMEOUT = 5.0
"""Seconds that aiortc may take to close; it can wait for ever for a task that failed."""

DIRECTIONS: dict[Mode, str] = {
    "send-receive": "sendrecv",
    "send": "recvonly",
    "receive": "sendonly",
}
"""Of this side's transceivers, by the mode as the client sees it."""


class Peer:
    """One peer connection, from the offer to the end.

    Args:
        configuration: ICE servers and policies.
        outputs: what is played to the client, at most one track of each kind.
        mode: the direction of media, seen from the client.
        channel: takes the data channel that the client opens.
        events: is told how the connection fares.
        log: carries the connection id.
    """

    def __init__(
        self,
        configuration: RTCConfiguration,
        outputs: Sequence[MediaStreamTrack],
        mode: Mode,
        channel: DataChannel,
        events: Events,
        log: Log,
    ) -> None:
        self._outputs = {output.kind: output for output in outputs}
        self._mode: Mode = mode
        self._events = events
        self._log = log
        self._relayed = uses_turn(configuration)
        self._connection = RTCPeerConnection(configuration)
        if mode != "send":
            for output in outputs:
                self._connection.addTrack(output)
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", channel.attach)
        self.received: list[AudioReceiver | VideoReceiver] = []
        """What takes the client's tracks, once the offer is answered."""
        self.sent: list[MediaStreamTrack] = []
        """Those of the outputs that the client takes, once the offer is answered."""

    async def answer(self, offer: Offer) -> str:
        """The SDP of the answer, with all candidates of this side.

        Raises:
            InvalidSDP: aiortc does not understand the offer.
            UnsupportedTrack: there is no codec in common.
            OSError: no socket can be had.
        """
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            used = self._set_directions()
            answer = await self._connection.createAnswer()
            await self._connection.setLocalDescription(_as_dtls_server(answer, offer))
        except OperationError as error:
            raise UnsupportedTrack("the offer has no codec in common with this side") from error
        except OSError:
            raise
        except Exception as error:  # whatever an offer can make aiortc raise
            self._log.info("offer not answered: %r", error)
            raise InvalidSDP("the session description cannot be answered") from error
        for transceiver in used:
            if transceiver.currentDirection in ("sendrecv", "recvonly"):
                receiver: Any = transceiver.receiver  # as `workers.patches` has it made
                assert isinstance(receiver, AudioReceiver | VideoReceiver)
                self.received.append(receiver)
            if transceiver.currentDirection in ("sendrecv", "sendonly"):
                self.sent.append(self._outputs[transceiver.kind])
        sdp = self._connection.localDescription.sdp
        if self._relayed and " typ relay" not in sdp:
            self._log.warning("no relayed address: the TURN server refuses or does not answer")
        return sdp

    def _set_directions(self) -> list[RTCRtpTransceiver]:
        """Allow media where the mode does; those of the transceivers that carry any.

        The answer never goes beyond the offer's own direction (RFC 8829, 5.3.1).
        """
        used: dict[str, RTCRtpTransceiver] = {}
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind in self._outputs and transceiver.kind not in used:
                used[transceiver.kind] = transceiver
                transceiver.direction = DIRECTIONS[self._mode]
            else:
                # else its decoder would run and its frames pile up, with nobody to take them
                transceiver.direction = "inactive"
        return list(used.values())

    async def add_candidate(self, candidate: RTCIceCandidate | None) -> None:
        """Add a candidate of the client; None ends them. An mDNS name takes up to a second."""
        try:
            await self._connection.addIceCandidate(candidate)
        except (ValueError, OSError) as error:
            self._log.info("candidate not used: %s", error)

    async def close(self) -> None:
        """Close the peer connection and all that belongs to it."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._connection.close()
        except TimeoutError:
            self._log.error("the peer connection did not close in time")

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self._events.connected()
        elif state == "failed" or (state == "closed" and self._has_failed()):
            self._events.failed()
        elif state == "closed":
            self._events.closed()

    def _has_failed(self) -> bool:
        """Whether it closes because the client no longer answers.

        Then aiortc ends DTLS at once, as if the client had, before it says that ICE has failed.
        """
        transports = [
            transceiver.receiver.transport.transport
            for transceiver in self._connection.getTransceivers()
        ]
        if self._connection.sctp is not None:
            transports.append(self._connection.sctp.transport.transport)
        return any(transport.state == "failed" for transport in transports)


def _as_dtls_server(answer: RTCSessionDescription, offer: Offer) -> RTCSessionDescription:
    """`answer` with the client opening DTLS, unless it wants to be the server itself.

    As DTLS client aiortc offers ciphers for ECDSA certificates alone, so that it could not talk to
    a client with an RSA certificate, such as GStreamer's. RFC 8842, 5.3 leaves the choice to the
    answer when the offer does, and prefers the other one for speed; calls of aiortc and libwebrtc
    connect as fast either way.
    """
    if "a=setup:passive" in offer.sdp:
        return answer
    return RTCSessionDescription(answer.sdp.replace("a=setup:active", "a=setup:passive"), "answer")
