"""The token with which a client proves that a connection is its own, to take it over.

It says what it is for and carries a signature under the cluster secret: any replica makes and
checks it, and nothing of it is stored.
"""

import base64
import hashlib
import hmac
import json
import re
from typing import Final

HEADER: Final = "Resume-Token"
"""Of an answer to an offer, and of the offer that takes the connection over."""
LENGTH_MAX: Final = 64
"""Characters of a token."""

_VERSION: Final = "1"
_TOKEN: Final = re.compile(r"1\.([1-9][0-9]{0,14})\.([A-Za-z0-9_-]{43})", re.ASCII)


class ResumeTokens:
    """Makes and checks the tokens of one cluster.

    Args:
        cluster: its name.
        secret: its secret, from which the key is derived.
    """

    def __init__(self, cluster: str, secret: str) -> None:
        self._cluster = cluster
        self._key = hmac.digest(secret.encode(), b"rayrtc resume token", hashlib.sha256)

    def make(self, stream: str, connection_id: str, session: int) -> str:
        """The token of one session of a connection: `1.SESSION.SIGNATURE`."""
        return f"{_VERSION}.{session}.{self._sign(stream, connection_id, session)}"

    def session(self, token: str, stream: str, connection_id: str) -> int:
        """The session of this connection that the token is for.

        0 for anything that is no token of this connection; the time to find out is the same for
        every wrong signature.
        """
        if len(token) > LENGTH_MAX or (match := _TOKEN.fullmatch(token)) is None:
            return 0
        session = int(match[1])
        signature = self._sign(stream, connection_id, session)
        return session if hmac.compare_digest(match[2], signature) else 0

    def _sign(self, stream: str, connection_id: str, session: int) -> str:
        signed = json.dumps([_VERSION, self._cluster, stream, connection_id, session])
        digest = hmac.digest(self._key, signed.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
