"""libopus, called directly: from and to the handler's own rate, with no frame object on the way.

It is the library that PyAV brings along for FFmpeg, or the system's. The GIL is kept during a call:
one takes less time than it would take to get the GIL back from a thread that computes.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayrtc.opus import OpusOptions
from workers.pyav_libraries import path_of

CLOCK_RATE = 48_000
"""Hz of the RTP timestamps, whatever the rate of the samples (RFC 7587, 4.1)."""
RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz of samples that libopus takes and gives."""
LONGEST = 0.12
"""Seconds of the longest packet (RFC 6716, 2.1.4)."""
PACKET_BYTES = 1275 * 3
"""Longest packet with frames of 20 ms that this encoder makes, and more."""

_APPLICATIONS = {"voip": 2048, "audio": 2049}
_SET_BITRATE, _SET_COMPLEXITY, _SET_INBAND_FEC = 4002, 4010, 4012
_SET_PACKET_LOSS_PERC, _SET_DTX = 4014, 4016


class OpusError(ValueError):
    """libopus does not take it; the argument says why."""


@cache
def library() -> ctypes.PyDLL:
    """The library.

    Raises:
        OSError: there is none.
    """
    lib = ctypes.PyDLL(path_of("opus", "libopus0"))
    lib.opus_strerror.restype = ctypes.c_char_p
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lib.opus_encode.argtypes = [pointer, ctypes.c_char_p, number, pointer, ctypes.c_int32]
    lib.opus_decode.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int32, pointer, number, number]
    return lib


def _check(result: int) -> int:
    if result < 0:
        raise OpusError(library().opus_strerror(result).decode())
    return result


def _state(kind: str, channels: int) -> Any:
    """Memory for an encoder or a decoder; it goes with the object."""
    size = getattr(library(), f"opus_{kind}_get_size")(channels)
    return ctypes.create_string_buffer(size)


class OpusEncoder:
    """Codes frames of 20 ms.

    Args:
        rate: Hz of the samples, one of `RATES`.
        channels: 1, or 2 interleaved.

    Raises:
        OpusError: the rate is none of them.
    """

    def __init__(self, rate: int, channels: int, options: OpusOptions) -> None:
        self.rate = rate
        self.channels = channels
        self._state = _state("encoder", channels)
        self._encode = library().opus_encode
        self._frame = rate // 50
        self._bytes = self._frame * channels * 2
        self._out = ctypes.create_string_buffer(PACKET_BYTES)
        application = _APPLICATIONS[options.application]
        _check(library().opus_encoder_init(self._state, rate, channels, application))
        self._set(_SET_BITRATE, options.bits(channels))
        self._set(_SET_COMPLEXITY, options.complexity)
        self._set(_SET_DTX, options.dtx)
        self._set(_SET_INBAND_FEC, options.fec)
        self._set(_SET_PACKET_LOSS_PERC, 10 if options.fec else 0)

    def _set(self, request: int, value: int) -> None:
        _check(library().opus_encoder_ctl(self._state, request, ctypes.c_int(value)))

    def encode(self, pcm: bytes) -> bytes:
        """A packet of 20 ms of 16-bit samples.

        Raises:
            OpusError: `pcm` has another length.
        """
        if len(pcm) != self._bytes:
            raise OpusError(f"{len(pcm)} bytes are no frame of {self._bytes}")
        size = _check(self._encode(self._state, pcm, self._frame, self._out, PACKET_BYTES))
        return ctypes.string_at(self._out, size)


class OpusDecoder:
    """Decodes packets of any length and number of channels.

    Args:
        rate: Hz of the samples that it gives, one of `RATES`.
        channels: 1, or 2 interleaved; libopus mixes what the packets have.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._state = _state("decoder", channels)
        self._decode = library().opus_decode
        self._channels = channels
        self._most = round(rate * LONGEST)
        self._out = np.empty(self._most * channels, np.int16)
        self._pointer = ctypes.c_void_p(self._out.ctypes.data)
        _check(library().opus_decoder_init(self._state, rate, channels))

    def decode(self, packet: bytes) -> NDArray[np.int16]:
        """The samples of a packet, shape (n * channels,).

        Raises:
            OpusError: it is none.
        """
        if not packet:
            raise OpusError("an empty packet")
        count = self._decode(self._state, packet, len(packet), self._pointer, self._most, 0)
        return self._out[: _check(count) * self._channels].copy()

    def conceal(self, samples: int, following: bytes = b"") -> NDArray[np.int16]:
        """What was in a lost packet of that many samples per channel, or may have been.

        Args:
            following: the packet after it, which may repeat parts of it (RFC 6716, 2.1.7).
        """
        data, size, repeated = following or None, len(following), int(bool(following))
        count = self._decode(self._state, data, size, self._pointer, samples, repeated)
        return self._out[: _check(count) * self._channels].copy()
