"""Broken, a server that sends nothing, late or spoiled media could look good in a benchmark."""

import os
import subprocess
import sys
import time

import numpy as np

from benchmarks.load import vp8


def test_pictures_know_their_number_and_their_quality() -> None:
    film = vp8.video()
    upside_down = [np.flip(picture, axis=0) for picture in film.pictures]
    assert [vp8.number_of(picture) for picture in upside_down] == list(range(vp8.FRAMES))
    assert vp8.psnr(film.pictures[0], film.pictures[0].astype(np.float32)) == 100
    assert vp8.psnr(film.pictures[0], film.pictures[5].astype(np.float32)) < 30
    payloads = [(number, part) for number, parts in enumerate(film.frames) for part in parts]
    assert max(len(part) for _, part in payloads) <= vp8.PAYLOAD
    decoded = vp8.decode(vp8.assemble(payloads))
    assert all(picture is not None for picture in decoded)
    assert np.array_equal(np.stack([p for p in decoded if p is not None]), film.pictures)


def test_a_long_result_arrives_whole_from_an_unbuffered_python() -> None:
    """Its own `print` ends after 64 KiB, without an error, once uvloop has run."""
    code = (
        "import asyncio, uvloop; from benchmarks.load.generator import tell;"
        "uvloop.run(asyncio.sleep(0)); tell('result', {'text': 'y' * 800_000})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read(1)
        time.sleep(0.2)  # until the pipe is full
        told += process.stdout.read()
    assert told.count(b"y") == 800_000
    assert told.endswith(b"}\n")
