"""Receives the audio of a connection: each packet goes from the socket to the handler's input in
one call."""

from aiortc import RTCDtlsTransport
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import FFmpegError
from prometheus_client import Counter

from workers import rtp
from workers.audio import AudioInput
from workers.opus import RATES, OpusDecoder, OpusError
from workers.packet_order import PacketOrder
from workers.rtp_receiver import RtpReceiver
from workers.samples import Samples

packets_broken = Counter(
    "rayrtc_worker_audio_packets_broken_total",
    "Received audio packets that could not be authenticated, read or decoded.",
)


class AudioReceiver(RtpReceiver):
    """Gives what it receives to an `AudioInput`."""

    kind = "audio"
    broken = packets_broken

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport)
        self._input: AudioInput | None = None
        self._order = PacketOrder[rtp.Packet]()
        self._decoder: _Decoder | None = None
        self._decodes = -1  # payload type

    def feed(self, input: AudioInput) -> None:
        """Give what is received to `input` from now on."""
        self._input = input

    def _take(self, packet: rtp.Packet, new: bool) -> None:
        if self._input is None:
            return
        if new:
            self._order = PacketOrder()
        lost = 0
        for due in self._order.add(packet.sequence_number, packet):
            if due is None:
                lost += 1
            else:
                self._decode(due, lost, self._input)
                lost = 0

    def _decode(self, packet: rtp.Packet, lost: int, input: AudioInput) -> None:
        """Give a packet's sound to the handler, after what stands for those lost before it."""
        try:
            if self._decoder is None or packet.payload_type != self._decodes:
                self._decoder = _decoder(self._codecs[packet.payload_type], input)
                self._decodes = packet.payload_type
                lost = 0
            for missing in range(lost, 0, -1):
                self._decoder.conceal(packet.payload if missing == 1 else b"", input)
            self._decoder.decode(packet, input)
        except (OpusError, FFmpegError):
            packets_broken.inc()


class _OpusDecoder:
    def __init__(self, input: AudioInput) -> None:
        # libopus gives the handler's rate itself if it can
        self._rate = input.rate if input.rate in RATES else RATES[-1]
        self._channels = input.channels
        self._decoder = OpusDecoder(self._rate, self._channels)
        self._last = self._rate // 50

    def decode(self, packet: rtp.Packet, input: AudioInput) -> None:
        samples = self._decoder.decode(packet.payload)
        self._last = samples.size // self._channels
        input.put(Samples(self._rate, self._channels, samples))

    def conceal(self, following: bytes, input: AudioInput) -> None:
        samples = self._decoder.conceal(self._last, following)
        input.put(Samples(self._rate, self._channels, samples))


class _OtherDecoder:
    """G.711 and G.722 by aiortc."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._decoder = get_decoder(codec)

    def decode(self, packet: rtp.Packet, input: AudioInput) -> None:
        for frame in self._decoder.decode(JitterFrame(packet.payload, packet.timestamp)):
            input.convert(frame)  # type: ignore[arg-type]

    def conceal(self, following: bytes, input: AudioInput) -> None:
        """A hole stays one."""


_Decoder = _OpusDecoder | _OtherDecoder


def _decoder(codec: RTCRtpCodecParameters, input: AudioInput) -> _Decoder:
    if codec.mimeType.lower() == "audio/opus":
        return _OpusDecoder(input)
    return _OtherDecoder(codec)
