"""Broken, a server that sends nothing, late or spoiled media could look good in a benchmark."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.load import opus, sound, vp8
from benchmarks.load.callers import round_trips
from benchmarks.load.rtp import PacketWriter, extended, missing, parse_header, payload_of


def test_packets_are_numbered_and_read_again() -> None:
    writer = PacketWriter(111, 0xFFFFFFFF)
    writer.sequence_number = 0xFFFF
    first, second = writer.packet(b"abc", 1 << 32, marker=True), writer.packet(b"d", 960)
    assert parse_header(first) == (111, True, 0xFFFF, 0, 0xFFFFFFFF)
    assert parse_header(second) == (111, False, 0, 960, 0xFFFFFFFF)
    assert payload_of(first) == b"abc"


def test_extensions_and_padding_are_no_payload() -> None:
    packet = bytearray(PacketWriter(96, 1).packet(b"", 0))
    packet[0] |= 0x30  # padding and extension
    packet += b"\xbe\xde\x00\x01" + b"\x10\x2a\x00\x00" + b"media" + b"\x00\x00\x03"
    assert payload_of(bytes(packet)) == b"media"


def test_sequence_numbers_go_on_and_may_come_late() -> None:
    assert extended([0xFFFE, 0xFFFF, 1, 0, 2]) == [0xFFFE, 0xFFFF, 0x10001, 0x10000, 0x10002]
    assert missing([0xFFFE, 0xFFFF, 1, 0, 4]) == 2
    assert missing([]) == 0


def test_a_burst_is_found_in_the_packet_it_was_sent_in() -> None:
    packets = opus.encoded(sound.speech_with_bursts)
    assert len(packets) == sound.SECONDS * sound.PACKETS
    decoded = opus.decode(packets)
    assert set(sound.burst_packets(decoded, opus.RATE)) == sound.BURSTS
    # as a server does: decoded, encoded again
    again = opus.decode(opus.encode(np.concatenate(decoded)))
    assert set(sound.burst_packets(again, opus.RATE)) == sound.BURSTS


def test_nothing_is_found_in_nothing() -> None:
    assert sound.burst_packets([], opus.RATE) == []
    assert sound.burst_packets([np.zeros(960, np.int16)] * 50, opus.RATE) == []


def test_a_round_trip_belongs_to_its_own_marker() -> None:
    assert round_trips([1.0, 2.0, 3.0], [1.1, 3.3]) == pytest.approx([0.1, 0.3])


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
