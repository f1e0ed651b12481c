"""Broken, a server that spoils or delays sound could look good in a benchmark."""

import numpy as np

from capacity import opus, sound


def found(decoded: list[np.ndarray]) -> set[tuple[int, int]]:
    """Packets and numbers of the bursts."""
    return {(burst.packet, burst.number) for burst in sound.find_bursts(decoded, opus.RATE)}


def test_a_burst_is_found_in_the_packet_it_was_sent_in() -> None:
    packets = opus.encoded(sound.speech_with_bursts)
    assert len(packets) == sound.SECONDS * sound.PACKETS
    decoded = opus.decode(packets)
    expected = {(packet, sound.number_of(packet)) for packet in sound.BURSTS}
    assert found(decoded) == expected
    # as a server does: decoded, encoded again
    again = opus.decode(opus.encode(np.concatenate(decoded)))
    assert found(again) == expected


def test_nothing_is_found_in_nothing() -> None:
    assert sound.find_bursts([], opus.RATE) == []
    assert sound.find_bursts([np.zeros(960, np.int16)] * 50, opus.RATE) == []
