"""WebRTC as the transport of a connection: offer, trickled candidates, peer, data channel."""

import asyncio

from aiortc import RTCConfiguration, RTCIceCandidate

from rayrtc.combinations import Modality
from rayrtc.errors import TooLarge
from rayrtc.handlers import StreamHandlerBase
from rayrtc.settings import Settings
from rayrtc.stream import Stream
from workers.audio import AudioInput, AudioOutput
from workers.audio_receiver import AudioReceiver
from workers.channel import DataChannel
from workers.functions import FunctionHandler
from workers.ice import MAX_CANDIDATES, is_usable
from workers.media import Media
from workers.offer import Offer, parse_offer
from workers.opus_sdp import with_preferences, within_offer
from workers.peer import Peer
from workers.transport import Events, Log, Transport
from workers.udp_mux import UDPMux
from workers.video import OUTPUT_SECONDS, VideoInput, VideoOutput

CANDIDATES_GRACE = 3.0
"""Seconds between the client's end of candidates and ours: until then a client whose candidates
cannot be used, such as mDNS names that do not resolve here, may still reach this side itself."""

KINDS: dict[Modality, tuple[str, ...]] = {
    "audio": ("audio",),
    "video": ("video",),
    "audio-video": ("audio", "video"),
}
"""The kinds of media of each modality."""


class WebRTC(Transport):
    """One peer connection.

    Args:
        sdp: the offer.
        stream: what is called.
        configuration: ICE servers and policies of this side.
        udp_mux: the port where media comes and goes.
    """

    def __init__(
        self,
        sdp: str,
        stream: Stream,
        settings: Settings,
        configuration: RTCConfiguration,
        udp_mux: UDPMux,
        events: Events,
        log: Log,
    ) -> None:
        self._sdp = sdp
        self._stream = stream
        self._settings = settings
        self._configuration = configuration
        self._udp_mux = udp_mux
        self._events = events
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._candidates_complete = asyncio.Event()
        self._candidates = 0
        self.channel: DataChannel = DataChannel(self._loop, events.closed, log)
        self._offer: Offer | None = None
        self._outputs: list[AudioOutput | VideoOutput] = []
        self._peer: Peer | None = None

    def check(self) -> None:
        kinds = KINDS[self._stream.modality]
        self._offer = parse_offer(self._sdp, kinds, self._stream.allow_extra_tracks)

    def prepare(self, handler: StreamHandlerBase) -> None:
        audio = audio_input = video = video_input = None
        if "audio" in KINDS[self._stream.modality]:
            audio = AudioOutput(self._loop, within_offer(self._stream.opus, self._sdp))
            audio_input = AudioInput(handler.input_sample_rate, handler.expected_layout)
        if "video" in KINDS[self._stream.modality]:
            video = _video_output(handler, self._loop)
            video_input = VideoInput(isinstance(handler, FunctionHandler) and handler.skip_frames)
        self.media = Media(audio_input, audio, video_input, video)
        self._outputs = [output for output in (audio, video) if output is not None]

    async def answer(self) -> str:
        """The SDP, with all candidates of this side."""
        assert self._offer is not None
        with self._udp_mux.selected():
            self._peer = Peer(
                self._configuration,
                self._outputs,
                self._stream.mode,
                self.channel,
                self._events,
                self._log,
            )
            answer = await self._peer.answer(self._offer)
        for output in self._outputs:
            if output not in self._peer.sent:
                output.discard()
        if self.media.input is None:
            return answer
        return with_preferences(answer, self.media.input.rate, self.media.input.channels)

    def start(self) -> None:
        assert self._offer is not None
        self._events.spawn(self._trickle(self._offer))

    def receive(self) -> None:
        assert self._peer is not None
        for receiver in self._peer.received:
            if isinstance(receiver, AudioReceiver):
                assert self.media.input is not None
                receiver.feed(self.media.input)
            else:
                assert self.media.video_input is not None
                receiver.feed(self.media.video_input)

    async def close(self) -> None:
        for output in self._outputs:
            output.stop()
        if self._peer is not None:
            await self._peer.close()

    def add_candidate(self, candidate: RTCIceCandidate | None) -> None:
        assert self._peer is not None
        if candidate is None:
            self._candidates_complete.set()
        elif self._candidates >= MAX_CANDIDATES:
            raise TooLarge(f"a connection has at most {MAX_CANDIDATES} candidates")
        else:
            self._candidates += 1
            if is_usable(candidate):
                self._events.spawn(self._peer.add_candidate(candidate))

    async def _trickle(self, offer: Offer) -> None:
        """Add the offer's candidates, and end them when the client does or the window closes."""
        assert self._peer is not None
        for candidate in offer.candidates[:MAX_CANDIDATES]:
            self.add_candidate(candidate)
        if offer.complete:
            self._candidates_complete.set()
        try:
            async with asyncio.timeout(self._settings.trickle_window):
                await self._candidates_complete.wait()
                await asyncio.sleep(CANDIDATES_GRACE)
        except TimeoutError:
            self._log.debug("the trickle window has closed")
        await self._peer.add_candidate(None)


def _video_output(handler: StreamHandlerBase, loop: asyncio.AbstractEventLoop) -> VideoOutput:
    """A function of frames replaces what it said before; what makes frames itself is paced."""
    if isinstance(handler, FunctionHandler):
        ahead = round(OUTPUT_SECONDS * handler.fps)
        return VideoOutput(loop, handler.fps, max(1, ahead), replace=handler.takes_frames)
    return VideoOutput(loop, handler.fps)
