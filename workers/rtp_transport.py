"""What senders and receivers use of their DTLS transport to send at once, without a coroutine.

Any thread may send; packets of one stream have to come from one at a time (RFC 3711, 3.3.1).
"""

from aiortc import RTCDtlsTransport
from aiortc.rtp import AnyRtcpPacket

from workers.ice_connection import SharedPortConnection


def connection_of(transport: RTCDtlsTransport) -> SharedPortConnection:
    """The way to the client."""
    connection = transport.transport._connection
    assert isinstance(connection, SharedPortConnection)
    return connection


def send_rtp(transport: RTCDtlsTransport, connection: SharedPortConnection, packet: bytes) -> None:
    """Send a packet; the transport, of which `connection` is the way, has to be connected."""
    with connection.encrypting:
        data = transport._tx_srtp.protect(packet)
    connection.send_now(data)


def send_rtcp(transport: RTCDtlsTransport, *packets: AnyRtcpPacket) -> None:
    """Send packets as one datagram (RFC 3550, 6.1), if the transport is connected."""
    if transport.state == "connected":
        connection = connection_of(transport)
        with connection.encrypting:
            data = transport._tx_srtp.protect_rtcp(b"".join(map(bytes, packets)))
        connection.send_now(data)
