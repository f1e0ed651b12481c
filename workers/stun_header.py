"""What a datagram's first bytes say, read without building a message of it.

Everything that arrives from strangers is judged by this module before anything else sees it, so
nothing here raises for any bytes, and nothing costs more than one HMAC.
"""

import hmac
from struct import Struct

COOKIE = 0x2112A442
REQUEST = 0x0001
"""A Binding request (RFC 8489, 5)."""
INDICATION = 0x0011
RESPONSE = 0x0101
ERROR = 0x0111

MEDIA = 20
"""First bytes below are STUN's; DTLS, RTP and RTCP come from here on (RFC 7983, 7)."""

_HEADER = Struct("!HHI12s")
_ATTRIBUTE = Struct("!HH")
_LENGTH = Struct("!H")
_USERNAME = 0x0006
_INTEGRITY = 0x0008
_INTEGRITY_SIZE = 20


class StunHeader:
    """The parts of a STUN message that say whose it is.

    Attributes:
        type: method and class.
        transaction_id: 12 bytes.
    """

    __slots__ = ("_data", "_integrity_at", "_username", "transaction_id", "type")

    def __init__(self, type: int, transaction_id: bytes, data: bytes) -> None:
        self.type = type
        self.transaction_id = transaction_id
        self._data = data
        self._username = b""
        self._integrity_at = 0
        self._walk()

    @property
    def user(self) -> bytes:
        """The user name fragment of who is asked, empty when there is none (RFC 8445, 7.2.2)."""
        return self._username.partition(b":")[0]

    def is_authentic(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY was made with `key` (RFC 8489, 14.5)."""
        at = self._integrity_at
        if not at:
            return False
        # as if the message ended with this attribute
        covered = (
            self._data[:2]
            + _LENGTH.pack(at - _HEADER.size + _ATTRIBUTE.size + _INTEGRITY_SIZE)
            + self._data[4:at]
        )
        begin = at + _ATTRIBUTE.size
        given = self._data[begin : begin + _INTEGRITY_SIZE]
        return hmac.compare_digest(given, hmac.digest(key, covered, "sha1"))

    def _walk(self) -> None:
        """Find the user name and the integrity, behind which nothing counts."""
        data, at = self._data, _HEADER.size
        while at + _ATTRIBUTE.size <= len(data):
            kind, size = _ATTRIBUTE.unpack_from(data, at)
            begin = at + _ATTRIBUTE.size
            if begin + size > len(data):
                return
            if kind == _INTEGRITY:
                if size == _INTEGRITY_SIZE:
                    self._integrity_at = at
                return
            if kind == _USERNAME:
                self._username = data[begin : begin + size]
            at = begin + (size + 3 & ~3)


def parse_header(data: bytes) -> StunHeader | None:
    """The header of a STUN message, None when `data` is none (RFC 8489, 5)."""
    if len(data) < _HEADER.size:
        return None
    type, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if cookie != COOKIE or length != len(data) - _HEADER.size or length & 3:
        return None
    return StunHeader(type, transaction_id, data)


def is_media(first: int) -> bool:
    """Whether a datagram with this first byte is DTLS (20 to 63), RTP or RTCP (128 to 191)."""
    return MEDIA <= first < 64 or 128 <= first < 192
