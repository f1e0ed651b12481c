"""One caller: ICE, DTLS and SCTP by aiortc, its media past aiortc.

What is sent is encoded beforehand, encrypted by libsrtp and handed to the socket. What comes is
kept as it came, with its time, and looked at after the measurement. So a packet costs this process
a system call and little else. Uses private names of aiortc and aioice, of the version in the lock.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pylibsrtp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSrPacket,
    pack_remb_fci,
)

from capacity.addresses import LOOPBACK, offered
from capacity.refusal import refusal
from capacity.rtp import PacketWriter, parse_header

REPORT_INTERVAL = 1.0
"""Seconds between two receiver reports."""


class Peer:
    """A call of one kind of medium.

    Args:
        url: of the stream, `http://HOST:PORT/PATH`.
        kind: "audio" or "video".
        bitrate: bit/s that the server is told to send at most (REMB); None: it is told nothing.
        addresses: of this machine, that are offered.
        headers: of the offer's request.

    Attributes:
        received: time and bytes of each SRTP packet since `record` was called.
        offer_time, answer_time, connected_time, first_media_time: by `time.monotonic`.
        heard_time: when anything of media or reports came last.
        remote: address and port that media goes to.
        lost: packets of ours that the server misses, as it reports; None before its first report.
        ended: whether the connection has ended.
    """

    def __init__(
        self,
        url: str,
        kind: str = "audio",
        bitrate: int | None = None,
        addresses: Sequence[str] = (LOOPBACK,),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.kind = kind
        self.webrtc_id = uuid.uuid4().hex
        self.received: list[tuple[float, bytes]] = []
        self.offer_time = self.answer_time = self.connected_time = 0.0
        self.first_media_time: float | None = None
        self.heard_time = 0.0
        self.remote = ("", 0)
        self.lost: int | None = None
        self.ended = False
        self._addresses = addresses
        self._headers = headers
        self._bitrate = bitrate
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._recording = False
        self._latest: bytes | None = None
        self._first_media = asyncio.Event()
        self._reports: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._parameters: Any = None
        self._writer: PacketWriter | None = None
        self._decrypting = threading.Lock()  # libsrtp does it in one buffer of the session
        self._unprotect: Any = None
        self._unprotect_rtcp: Any = None
        self._pc.on("connectionstatechange", self._see_state)

    def _see_state(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self.ended = True
            self._connected.set()

    async def connect(
        self,
        session: aiohttp.ClientSession,
        timeout: float = 30.0,
        *,
        open_channel: bool = True,
    ) -> None:
        """Offer, answer, and everything until media can flow, and the data channel is open.

        Raises:
            Refused: the offer was not taken.
            ConnectionError: ICE or DTLS failed.
            TimeoutError: it is not connected in time.
            aiohttp.ClientError: the request failed.
        """
        async with asyncio.timeout(timeout):
            channel = self._pc.createDataChannel("text")
            opened = asyncio.Event()
            channel.on("open", opened.set)
            transceiver = self._pc.addTransceiver(self.kind, "sendrecv")
            transceiver.sender.send = self._negotiated  # type: ignore[method-assign]
            transceiver.receiver.receive = self._negotiated_back  # type: ignore[method-assign]
            with offered(self._addresses):
                await self._pc.setLocalDescription(await self._pc.createOffer())
            ice = transceiver.sender.transport.transport._connection
            for protocol in ice._protocols:
                self._intercept(protocol)
            body = {
                "sdp": self._pc.localDescription.sdp,
                "type": "offer",
                "webrtc_id": self.webrtc_id,
            }
            self.offer_time = time.monotonic()
            answer = await self._post(session, body)
            self.answer_time = time.monotonic()
            await self._pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await self._connected.wait()
            if self.ended:
                raise ConnectionError("ICE or DTLS failed")
            self.connected_time = time.monotonic()
            dtls = transceiver.sender.transport
            self._srtp: pylibsrtp.Session = dtls._tx_srtp
            self._unprotect = dtls._rx_srtp.unprotect
            self._unprotect_rtcp = dtls._rx_srtp.unprotect_rtcp
            nominated = next(iter(ice._nominated.values()))
            self.remote = nominated.remote_addr
            self._sendto = nominated.protocol.transport.sendto
            self._ssrc = transceiver.sender._ssrc
            if self._parameters is not None:
                self._writer = PacketWriter(self._parameters.codecs[0].payloadType, self._ssrc)
            if open_channel:
                await opened.wait()
        self._reports = asyncio.create_task(self._report_for_ever())

    async def _post(self, session: aiohttp.ClientSession, body: dict[str, str]) -> str:
        """The SDP of the answer."""
        async with session.post(
            self.url + "/webrtc/offer", json=body, headers=self._headers
        ) as response:
            if response.status != 200:
                text = await response.text(errors="replace")
                raise refusal(text, response.status, response.headers.get("Retry-After"))
            try:
                return str((await response.json())["sdp"])
            except (ValueError, KeyError, TypeError) as error:
                raise refusal("", response.status) from error

    async def _negotiated(self, parameters: Any) -> None:
        """aiortc starts its sender when DTLS is connected; here is none to start."""
        self._parameters = parameters
        self._connected.set()

    async def _negotiated_back(self, parameters: Any) -> None:
        """In place of aiortc's receiver, with its decoder thread; the sender's turn was before."""
        self._connected.set()

    def _intercept(self, protocol: Any) -> None:
        """Keep media to ourselves; STUN and DTLS go on to aioice."""
        pass_on = protocol.datagram_received

        def datagram_received(data: bytes, address: tuple[Any, ...]) -> None:
            if not 127 < data[0] < 192:
                pass_on(data, address)
            elif not 191 < data[1] < 224:  # no RTCP (RFC 5761, 4)
                self.heard_time = time.monotonic()
                if self._recording:
                    self.received.append((self.heard_time, data))
                self._latest = data
                if self.first_media_time is None:
                    self.first_media_time = self.heard_time
                    self._first_media.set()
            elif self._unprotect_rtcp is not None:
                self._take_reports(data)

        protocol.datagram_received = datagram_received

    def _take_reports(self, data: bytes) -> None:
        try:
            with self._decrypting:
                decrypted = self._unprotect_rtcp(data)
            packets = RtcpPacket.parse(decrypted)
        except (pylibsrtp.Error, ValueError):
            return  # not authentic, or none that we know
        self.heard_time = time.monotonic()
        for packet in packets:
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
                for report in packet.reports:
                    self.lost = report.packets_lost

    def send(self, payload: bytes, timestamp: int, marker: bool = False) -> None:
        """Send an encoded piece of media now; nothing where the server takes none."""
        if self._writer is None:
            return
        packet = self._srtp.protect(self._writer.packet(payload, timestamp, marker))
        self._sendto(packet, self.remote)

    def record(self) -> None:
        """Keep what comes from now on; video from a key frame, which is asked for."""
        self._recording = True
        if self.kind == "video" and self._latest is not None:
            ssrc = parse_header(self._latest).ssrc
            request = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._ssrc, media_ssrc=ssrc)
            self._sendto(self._srtp.protect_rtcp(bytes(request)), self.remote)

    def stop_recording(self) -> None:
        """Keep packets no more."""
        self._recording = False

    async def first_media(self, timeout: float = 20.0) -> float:
        """When the first packet came; TimeoutError when none does."""
        async with asyncio.timeout(timeout):
            await self._first_media.wait()
        assert self.first_media_time is not None
        return self.first_media_time

    def decrypt(self) -> list[tuple[float, bytes]]:
        """Time and RTP packet of all authentic packets that were recorded; only once. On any
        thread."""
        decrypted: list[tuple[float, bytes]] = []
        for arrival, data in self.received:
            try:
                with self._decrypting:
                    packet = self._unprotect(data)
            except pylibsrtp.Error:
                continue  # not authentic, or twice the same
            decrypted.append((arrival, packet))
        self.received = []
        return decrypted

    async def _report_for_ever(self) -> None:
        """Receiver reports without loss, and the bit rate, as a browser sends them."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._latest is None:
                continue
            self._follow(self._latest)
            header = parse_header(self._latest)
            report = RtcpReceiverInfo(
                ssrc=header.ssrc,
                fraction_lost=0,
                packets_lost=0,
                highest_sequence=header.sequence_number,
                jitter=0,
                lsr=0,
                dlsr=0,
            )
            data = bytes(RtcpRrPacket(ssrc=self._ssrc, reports=[report]))
            if self._bitrate is not None:
                fci = pack_remb_fci(self._bitrate, [header.ssrc])
                data += bytes(
                    RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._ssrc, media_ssrc=0, fci=fci)
                )
            self._sendto(self._srtp.protect_rtcp(data), self.remote)

    def _follow(self, latest: bytes) -> None:
        """Let libsrtp see one packet a second: it has to count the turns of sequence numbers."""
        if self._recording or self.received:
            return  # it takes no packet that is much older than the latest
        try:
            with self._decrypting:
                self._unprotect(latest)
        except pylibsrtp.Error:
            pass  # nothing has come since the last one

    async def close(self) -> None:
        """Hang up."""
        if self._reports is not None:
            self._reports.cancel()
            await asyncio.gather(self._reports, return_exceptions=True)
        await self._pc.close()
