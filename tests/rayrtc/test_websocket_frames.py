"""Frames are passed on by where they begin and end: a mistake would garble a whole call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from rayrtc.errors import InvalidMessage
from rayrtc.websocket_frames import Head, Walk, read_head, text_frame, whole_frames

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 100_000]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_head_tells_where_its_frame_ends(length: int, mask: bool) -> None:
    data = Frame(Opcode.TEXT, b"x" * length, fin=False).serialize(mask=mask)
    head = read_head(b"--" + data + b"more", 2)
    assert head is not None
    assert (head.size, head.payload, head.masked) == (len(data), length, mask)
    assert (head.opcode, head.final, head.plain) == (Opcode.TEXT, False, True)
    assert read_head(data[:1]) is None
    if length > 125:
        assert read_head(data[:3]) is None


@pytest.mark.parametrize("length", LENGTHS)
def test_a_text_frame_is_as_the_library_makes_it(length: int) -> None:
    data = b"x" * length
    assert text_frame(data) == Frame(Opcode.TEXT, data).serialize(mask=False)


FRAMES = st.lists(
    st.tuples(st.sampled_from([Opcode.TEXT, Opcode.CONT, Opcode.PING]), st.binary(max_size=125)),
    max_size=6,
)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 40), min_size=1), mask=st.booleans())
def test_a_walk_sees_every_frame_however_the_bytes_are_cut(
    frames: list[tuple[Opcode, bytes]], cuts: list[int], mask: bool
) -> None:
    data = b"".join(Frame(*frame).serialize(mask=mask) for frame in frames)
    seen: list[Head] = []
    walk = Walk(seen.append)
    passed, at, turn = b"", 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        passed += walk.follow(data[at : at + size])
        at, turn = at + size, turn + 1
        assert data.startswith(passed)
        assert walk.between_frames == (len(passed) in _ends(seen))
    assert passed == data
    assert [(head.opcode, head.payload) for head in seen] == [
        (opcode, len(payload)) for opcode, payload in frames
    ]


def _ends(heads: list[Head]) -> set[int]:
    ends, at = {0}, 0
    for head in heads:
        at += head.size
        ends.add(at)
    return ends


def test_a_walk_keeps_what_closes_to_itself() -> None:
    walk = Walk(lambda head: None)
    text = Frame(Opcode.TEXT, b"x").serialize(mask=False)
    close = Frame(Opcode.CLOSE, (1000).to_bytes(2)).serialize(mask=False)
    assert walk.follow(text + close[:3]) == text
    assert not walk.close
    assert walk.follow(close[3:] + b"rest") == b""
    assert walk.close == close + b"rest"
    assert walk.between_frames


def test_a_walk_ends_before_what_is_refused() -> None:
    def check(head: Head) -> None:
        if head.opcode == Opcode.BINARY:
            raise InvalidMessage("frames are text")

    walk = Walk(check)
    text = Frame(Opcode.TEXT, b"x").serialize(mask=False)
    assert walk.follow(text[:-1]) == text[:-1]
    assert not walk.between_frames
    refused = Frame(Opcode.BINARY, b"y").serialize(mask=False)
    assert walk.follow(text[-1:] + text + refused + text) == text[-1:] + text
    assert isinstance(walk.error, InvalidMessage)
    assert walk.between_frames


def test_whole_frames_end_where_the_last_one_does() -> None:
    text = Frame(Opcode.TEXT, b"x" * 200).serialize(mask=True)
    assert whole_frames(text * 2 + text[:9], 1000) == (2 * len(text), 2)
    assert whole_frames(text[:9], 200) == (0, 0)
    assert whole_frames(text[:1], 1000) == (0, 0)
    assert whole_frames(text[:9], 100) == (9, 0), "who reads it has to refuse it"
