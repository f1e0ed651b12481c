"""The codec against others: a wrong table is a call full of noise."""

import hashlib

import numpy as np
from av import CodecContext
from av.audio.frame import AudioFrame
from av.packet import Packet

from rayrtc import mulaw

EVERY = np.arange(65536, dtype=np.uint16).view(np.int16)


def test_every_code_decodes_as_ffmpeg_decodes_it() -> None:
    codes = bytes(range(256))
    decoder = CodecContext.create("pcm_mulaw", "r")
    decoder.sample_rate = 8000
    decoder.layout = "mono"
    (frame,) = decoder.decode(Packet(codes))
    assert isinstance(frame, AudioFrame)
    assert mulaw.decode(codes).tolist() == frame.to_ndarray().reshape(-1).tolist()


def test_every_sample_encodes_as_pythons_audioop_did() -> None:
    """`audioop.lin2ulaw(EVERY, 2)` of Python 3.11, which later versions do not have."""
    digest = hashlib.sha256(mulaw.encode(EVERY)).hexdigest()
    assert digest == "617fa4850d68d3906597e949f7625fb2fc46db479e29707f33159b3d131721cb"
    values = np.array([0, 1, -1, 4, -4, 1000, -1000, 32124, 32767, -32768], np.int16)
    assert mulaw.encode(values).hex() == "ffff7efe7ece4e808000"


def test_what_was_decoded_encodes_to_the_same_code() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # minus nought is nought
    assert mulaw.encode(mulaw.decode(codes)) == codes
    error = np.abs(mulaw.decode(mulaw.encode(EVERY)).astype(int) - EVERY)
    assert (error <= np.maximum(np.abs(EVERY.astype(int)) / 16, 8) + 132)[1:].all()
