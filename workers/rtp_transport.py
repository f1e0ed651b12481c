"""What senders and receivers use of their DTLS transport to send at once, without a coroutine."""

from aiortc import RTCDtlsTransport
from aiortc.rtp import AnyRtcpPacket

from workers.ice_connection import SharedPortConnection


def connection_of(transport: RTCDtlsTransport) -> SharedPortConnection:
    """The way to the client."""
    connection = transport.transport._connection
    assert isinstance(connection, SharedPortConnection)
    return connection


def send_rtcp(transport: RTCDtlsTransport, *packets: AnyRtcpPacket) -> None:
    """Send packets as one datagram (RFC 3550, 6.1), if the transport is connected."""
    if transport.state == "connected":
        data = transport._tx_srtp.protect_rtcp(b"".join(map(bytes, packets)))
        connection_of(transport).send_now(data)
