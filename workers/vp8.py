"""libvpx, called directly: a VP8 encoder whose bit rate and speed change while it runs.

By FFmpeg each change would need a new encoder, and so a key frame. The library is the one that
PyAV brings along, or the system's. The GIL is released during a call.
"""

import ctypes
from functools import cache
from typing import Any

from av.video.frame import VideoFrame

from workers.codec_threads import available_cpus
from workers.pyav_libraries import path_of

CLOCK_RATE = 90_000
"""Hz of RTP timestamps (RFC 7741, 4.1)."""
SPEED = 12
"""Of 16. aiortc's 6 and its filter for noise take nearly twice the CPU, for a lower PSNR: what a
handler gives was filtered by the coder that sent it (`benchmarks/vp8_speed.py`)."""
SPEED_BEHIND = 15
"""While the worker's codec threads have too much to do: a little worse than aiortc's picture."""
LARGE = 1280 * 720
"""Pixels from which on one thread is not enough for a frame."""

_Pointer, _Int = ctypes.c_void_p, ctypes.c_int
_ABI_MISMATCH = 3
_ABI_VERSIONS = range(1, 100)  # of vpx_encoder.h; they grow by one or two with each release
_I420 = 0x102
_CBR = 1
_REALTIME = 1
_FORCE_KEY_FRAME = 1
_FRAME_PACKET = 0
_CPUUSED, _NOISE_SENSITIVITY, _STATIC_THRESHOLD, _MAX_INTRA_BITRATE = 13, 15, 17, 26
_MOST_INTRA = 900  # percent of a frame's share that a key frame takes at most
_FRAME_RATE = 30  # which that share is of


class VpxError(ValueError):
    """libvpx does not take it; the argument says why."""


class _Config(ctypes.Structure):
    """The begin of `vpx_codec_enc_cfg`, which all versions since 1.4 share."""

    _fields_ = [
        ("usage", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("profile", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("height", ctypes.c_uint),
        ("bit_depth", _Int),
        ("input_bit_depth", ctypes.c_uint),
        ("timebase", _Int * 2),
        ("error_resilient", ctypes.c_uint32),
        ("passes", _Int),
        ("lag_in_frames", ctypes.c_uint),
        ("dropframe_threshold", ctypes.c_uint),
        ("resizing", ctypes.c_uint * 5),
        ("end_usage", _Int),
        ("twopass_statistics", ctypes.c_size_t * 4),
        ("bitrate", ctypes.c_uint),  # kbit/s
        ("min_quantizer", ctypes.c_uint),
        ("max_quantizer", ctypes.c_uint),
        ("undershoot", ctypes.c_uint),
        ("overshoot", ctypes.c_uint),
        ("buffer", ctypes.c_uint * 3),  # ms: the whole, at the begin, aimed at
        ("variable", ctypes.c_uint * 4),
        ("key_frame_mode", _Int),
        ("key_frame_distance", ctypes.c_uint * 2),
        ("rest", ctypes.c_byte * 4096),
    ]


class _Image(ctypes.Structure):
    """`vpx_image`."""

    _fields_ = [
        ("head", _Int * 12),
        ("planes", _Pointer * 4),
        ("strides", _Int * 4),
        ("rest", ctypes.c_byte * 128),
    ]


class _Packet(ctypes.Structure):
    """The begin of `vpx_codec_cx_pkt`."""

    _fields_ = [("kind", _Int), ("data", _Pointer), ("size", ctypes.c_size_t)]


@cache
def library() -> ctypes.CDLL:
    """The library.

    Raises:
        OSError: there is none, or one whose structures are not known.
    """
    lib = ctypes.CDLL(path_of("vpx", "libvpx7"))
    lib.vpx_codec_vp8_cx.restype = _Pointer
    lib.vpx_codec_err_to_string.restype = ctypes.c_char_p
    lib.vpx_codec_enc_config_default.argtypes = [_Pointer, _Pointer, ctypes.c_uint]
    lib.vpx_codec_enc_init_ver.argtypes = [_Pointer, _Pointer, _Pointer, ctypes.c_long, _Int]
    lib.vpx_codec_enc_config_set.argtypes = [_Pointer, _Pointer]
    lib.vpx_codec_control_.argtypes = [_Pointer, _Int]
    lib.vpx_codec_encode.argtypes = [
        _Pointer,
        _Pointer,
        ctypes.c_int64,
        ctypes.c_ulong,
        ctypes.c_long,
        ctypes.c_ulong,
    ]
    lib.vpx_codec_get_cx_data.argtypes = [_Pointer, _Pointer]
    lib.vpx_codec_get_cx_data.restype = ctypes.POINTER(_Packet)
    lib.vpx_codec_destroy.argtypes = [_Pointer]
    lib.vpx_img_wrap.restype = _Pointer
    lib.vpx_img_wrap.argtypes = [_Pointer, _Int, ctypes.c_uint, ctypes.c_uint, _Int, _Pointer]
    _check_structures(lib)
    return lib


def _check_structures(lib: ctypes.CDLL) -> None:
    """Compare libvpx's defaults with what they have been since VP8 (vp8_cx_iface.c)."""
    config = _default_config(lib)
    seen = [config.width, config.height, *config.timebase, config.bitrate, *config.buffer]
    if [*seen, *config.key_frame_distance] != [320, 240, 1, 30, 256, 6000, 4000, 5000, 0, 128]:
        raise OSError("this libvpx has other structures")


def _default_config(lib: ctypes.CDLL) -> _Config:
    config = _Config()
    if lib.vpx_codec_enc_config_default(lib.vpx_codec_vp8_cx(), ctypes.byref(config), 0):
        raise OSError("this libvpx has no VP8 encoder")
    return config


class VP8Encoder:
    """Codes the frames of one size, one after the other, on any thread.

    Args:
        width, height: pixels.
        bitrate: bit/s.

    Raises:
        VpxError: libvpx does not take the size.
        OSError: as `library`.
    """

    def __init__(self, width: int, height: int, bitrate: int) -> None:
        self._lib = library()
        self.width, self.height = width, height
        self._config = config = _default_config(self._lib)
        config.width, config.height = width, height
        config.threads = 1 if width * height <= LARGE else min(4, available_cpus())
        config.timebase[:] = 1, CLOCK_RATE
        config.lag_in_frames = 0
        config.end_usage = _CBR
        config.bitrate = max(1, bitrate // 1000)
        config.min_quantizer, config.max_quantizer = 2, 56
        config.undershoot, config.overshoot = 100, 15
        config.buffer[:] = 1000, 500, 600
        config.dropframe_threshold = 30  # percent of the buffer; else what is too much is sent late
        config.key_frame_distance[:] = 0, 3000
        self._context = ctypes.create_string_buffer(256)
        self._image = _Image()
        self._speed = 0
        self._open()

    def _open(self) -> None:
        lib, context = self._lib, self._context
        interface, config = lib.vpx_codec_vp8_cx(), ctypes.byref(self._config)
        for version in _ABI_VERSIONS:
            result = lib.vpx_codec_enc_init_ver(context, interface, config, 0, version)
            if result != _ABI_MISMATCH:
                break
        self._check(result)
        for control, value in (
            (_NOISE_SENSITIVITY, 0),
            (_STATIC_THRESHOLD, 1),
            (_MAX_INTRA_BITRATE, _MOST_INTRA),
        ):
            self._control(control, value)
        size = self.width, self.height
        if not lib.vpx_img_wrap(ctypes.byref(self._image), _I420, *size, 1, 1):
            raise VpxError(f"no image has {size[0]} x {size[1]} pixels")

    def set_bitrate(self, bitrate: int) -> None:
        """Of the frames from now on, bit/s."""
        if (kilobits := max(1, bitrate // 1000)) != self._config.bitrate:
            self._config.bitrate = kilobits
            config = ctypes.byref(self._config)
            self._check(self._lib.vpx_codec_enc_config_set(self._context, config))

    def set_speed(self, speed: int) -> None:
        """Of the frames from now on: 0, the best picture, to 16, the least CPU."""
        if speed != self._speed:
            self._control(_CPUUSED, -speed)
            self._speed = speed

    def encode(self, frame: VideoFrame, key: bool) -> bytes:
        """A coded frame; empty if it is left out to keep to the bit rate.

        Args:
            frame: yuv420p of this encoder's size; its `pts` in 1/90000 s, growing.
            key: make it a key frame.

        Raises:
            VpxError: libvpx does not take it.
        """
        for number, plane in enumerate(frame.planes):
            self._image.planes[number] = plane.buffer_ptr
            self._image.strides[number] = plane.line_size
        self._check(
            self._lib.vpx_codec_encode(
                self._context,
                ctypes.byref(self._image),
                frame.pts,
                CLOCK_RATE // _FRAME_RATE,
                _FORCE_KEY_FRAME if key else 0,
                _REALTIME,
            )
        )
        coded = b""
        position = _Pointer()
        while packet := self._lib.vpx_codec_get_cx_data(self._context, ctypes.byref(position)):
            if packet.contents.kind == _FRAME_PACKET:
                coded += ctypes.string_at(packet.contents.data, packet.contents.size)
        return coded

    def _control(self, control: int, value: int) -> None:
        self._check(self._lib.vpx_codec_control_(self._context, control, _Int(value)))

    def _check(self, result: int) -> None:
        if result:
            raise VpxError(self._lib.vpx_codec_err_to_string(result).decode())

    def __del__(self, _library: Any = library) -> None:
        if hasattr(self, "_image"):
            _library().vpx_codec_destroy(self._context)
