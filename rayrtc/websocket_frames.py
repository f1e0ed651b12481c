"""The frames of a WebSocket (RFC 6455, 5.2) as they are on the wire: where each begins and ends.

Whoever knows that can pass frames on, or look at one, without taking the others apart.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from rayrtc.errors import RayRTCError

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

WHOLE_TEXT: Final = 0x80 | TEXT
WHOLE_PING: Final = 0x80 | PING
"""First byte of a message of text in one frame, and of a ping."""

NORMAL: Final = 1000
INVALID_DATA: Final = 1007
"""Close codes (RFC 6455, 7.4.1)."""

CONTROL_MAX: Final = 125
"""Bytes of the payload of a frame that closes, pings or answers a ping."""


class Head(NamedTuple):
    """What precedes the payload of a frame.

    Attributes:
        first: its first byte: FIN, three reserved bits, the opcode.
        masked: whether the payload is masked, as that of every client is.
        begin: bytes from the begin of the frame to its payload.
        size: bytes of the whole frame.
    """

    first: int
    masked: bool
    begin: int
    size: int

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def final(self) -> bool:
        """Whether it is the last frame of its message."""
        return self.first >= 0x80

    @property
    def plain(self) -> bool:
        """Whether no extension has set one of the reserved bits."""
        return not self.first & 0x70

    @property
    def payload(self) -> int:
        """Bytes of the payload."""
        return self.size - self.begin


def read_head(data: bytes | bytearray, at: int = 0) -> Head | None:
    """The head of the frame that begins at `data[at]`; None if not all of it is there."""
    have = len(data) - at
    if have < 2:
        return None
    second = data[at + 1]
    length = second & 0x7F
    begin = 2
    if length > 125:
        begin = 4 if length == 126 else 10
        if have < begin:
            return None
        length = int.from_bytes(data[at + 2 : at + begin])
    masked = second > 0x7F
    if masked:
        begin += 4
    return Head(data[at], masked, begin, begin + length)


class Walk:
    """Follows the frames of a stream of bytes.

    Args:
        check: called with each head before its payload is passed over; with that of a frame that
            closes maybe more than once. A `RayRTCError` refuses the frame and ends the walk.

    Attributes:
        close: the frame that closes, and what followed it, once there was one.
        error: why a frame was refused.
    """

    def __init__(self, check: Callable[[Head], None]) -> None:
        self._check = check
        self._left = 0
        self._partial = b""
        self.close = b""
        self.error: RayRTCError | None = None

    @property
    def between_frames(self) -> bool:
        """Whether what `follow` has returned so far ends with a frame."""
        return not self._left

    @property
    def rest(self) -> bytes:
        """What `follow` has taken and not returned."""
        return self.close or self._partial

    def follow(self, data: bytes) -> bytes:
        """Take the next bytes. Returns those that may be passed on: all of them but the begin of a
        head, which is kept until the rest is there, and from a frame on that closes or is refused.
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        at, end = self._left, len(data)
        while at < end:
            head = read_head(data, at)
            if head is not None:
                try:
                    self._check(head)
                except RayRTCError as error:
                    self.error = error
                    self._left = 0
                    return data[:at]
                if head.opcode != CLOSE:
                    at += head.size
                    continue
            if head is None or at + head.size > end:
                self._partial = data[at:]
            else:
                self.close = data[at:]
            self._left = 0
            return data[:at]
        self._left = at - end
        return data


def whole_frames(data: bytes, payload_max: int) -> tuple[int, int]:
    """Where the last frame ends that is complete in `data`, and how many there are until then; the
    length of `data` when one with a payload of more than `payload_max` bytes begins there."""
    at = count = 0
    while (head := read_head(data, at)) is not None:
        if head.payload > payload_max:
            return len(data), count
        if at + head.size > len(data):
            break
        at += head.size
        count += 1
    return at, count


def text_frame(payload: bytes) -> bytes:
    """A whole message as a server sends it, in one frame that is not masked."""
    length = len(payload)
    if length < 126:
        return b"\x81" + length.to_bytes(1) + payload
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2) + payload
    return b"\x81\x7f" + length.to_bytes(8) + payload
