"""Sends the audio of a connection: coded, encrypted and sent in one call when it is due."""

import math
import threading
import time
import warnings

import numpy as np
from aiortc import MediaStreamTrack, RTCDtlsTransport
from aiortc.codecs import get_encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.utils import random32
from av import FFmpegError
from prometheus_client import Counter

from rayrtc.opus import OpusOptions
from workers.audio import AudioOutput
from workers.changes import run_on
from workers.opus import OpusEncoder, OpusError
from workers.pacer import TICK, pacer_of
from workers.playback import FRAME_TIME, Chunk
from workers.rtp_sender import RtpSender
from workers.samples import Samples

with warnings.catch_warnings():
    # Python has it until 3.12, audioop-lts from then on
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

frames_uncoded = Counter(
    "rayrtc_worker_audio_frames_uncoded_total",
    "Frames of 20 ms that no codec would take, and that were not sent.",
)


class AudioSender(RtpSender):
    """Sends what an `AudioOutput` has."""

    kind = "audio"

    def __init__(self, track: MediaStreamTrack | None, transport: RTCDtlsTransport) -> None:
        super().__init__(track, transport)
        self._pacer = pacer_of(self._loop)
        self._sending = threading.Lock()  # guards the codec and what is counted
        self._codec: _Codec | None = None
        self._timestamp = random32()
        self._next: float | None = None  # time of the pacer's next call
        self._started = False

    def _begin(self, parameters: RTCRtpSendParameters) -> None:
        track = self.track
        assert isinstance(track, AudioOutput)
        codec = parameters.codecs[0]
        self._codec = _codec(codec, track.opus)
        track.on_filled(self._send_due, on_threads=True)
        self._send_due()

    async def _end(self) -> None:
        with self._sending:
            self._codec = None

    def _send_due(self, now: float = 0.0) -> None:
        """Send all that is due, on the calling thread: to hand a frame to the loop would cost a
        handler's thread as much again.

        Args:
            now: what counts as due, if it is not over yet.
        """
        track = self.track
        if not isinstance(track, AudioOutput):
            return
        with self._sending:
            if self._codec is None:  # nothing is sent yet, or any more
                return
            while (chunk := track.take(max(now, time.monotonic()))) is not None:
                self._send(self._codec, chunk)
                if track.next_at is None:  # nothing is left
                    break
            when = track.next_at
        if when is not None:
            run_on(self._loop, lambda: self._send_at(when))

    def _send_at(self, when: float) -> None:
        if self._next is None or when < self._next - TICK:
            self._next = when
            self._pacer.at(when, self._tick)

    def _tick(self, now: float) -> None:
        if self._next is not None and now >= self._next - TICK:  # else an earlier one came between
            self._next = None
            self._send_due(now)

    def _send(self, codec: "_Codec", chunk: Chunk) -> None:
        assert self._header is not None
        self._timestamp += round(chunk.gap * self._clock_rate)
        if self._can_send:
            level = _level(chunk.pcm) if self._header.wants_level else 0
            marker = not self._started or chunk.gap > 0
            try:
                payloads = codec.encode(chunk)
            except (OpusError, FFmpegError):
                frames_uncoded.inc()
                payloads = []
            for payload in payloads:
                self._send_packet(payload, self._timestamp & 0xFFFFFFFF, marker, level)
                self._started = True
        self._timestamp += round(FRAME_TIME * self._clock_rate)


def _level(pcm: bytes) -> int:
    """-dBov of 16-bit samples, 0 to 127 for silence (RFC 6464, 3)."""
    root_mean_square = audioop.rms(pcm, 2)
    if not root_mean_square:
        return 127
    return min(127, max(0, round(-20 * math.log10(root_mean_square / 32767))))


class _OpusCodec:
    def __init__(self, options: OpusOptions) -> None:
        self._options = options
        self._encoder: OpusEncoder | None = None

    def encode(self, chunk: Chunk) -> list[bytes]:
        encoder = self._encoder
        if encoder is None or (encoder.rate, encoder.channels) != (chunk.rate, chunk.channels):
            encoder = self._encoder = OpusEncoder(chunk.rate, chunk.channels, self._options)
        return [encoder.encode(chunk.pcm)]


class _OtherCodec:
    """G.711 and G.722 by aiortc."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._encoder = get_encoder(codec)
        self._pts = 0

    def encode(self, chunk: Chunk) -> list[bytes]:
        samples = Samples(chunk.rate, chunk.channels, np.frombuffer(chunk.pcm, np.int16))
        frame = samples.to_frame()
        frame.pts = self._pts
        self._pts += frame.samples
        return self._encoder.encode(frame)[0]


_Codec = _OpusCodec | _OtherCodec


def _codec(codec: RTCRtpCodecParameters, options: OpusOptions) -> _Codec:
    if codec.mimeType.lower() == "audio/opus":
        return _OpusCodec(options)
    return _OtherCodec(codec)
