"""Broken, calls would not be spread, or what fails would not be seen."""

import asyncio
from contextlib import suppress

from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from pylibsrtp import Policy, Session

from capacity.addresses import address_towards, all_addresses
from capacity.generators import Generators
from capacity.pace import Pace
from capacity.peer import Peer
from capacity.protocol import Target
from capacity.rtp import PacketWriter
from rayrtc.free_port import free_port


async def test_callers_send_evenly_and_stop_when_they_are_taken_out() -> None:
    counts = [0, 0, 0]

    def sender(caller: int) -> None:
        counts[caller] += 1

    sends = [lambda caller=caller: sender(caller) for caller in range(3)]
    pace = Pace(0.02, 2)
    for send in sends:
        pace.add(send)
    pacing = asyncio.create_task(pace.run())
    await asyncio.sleep(0.4)
    pace.remove(sends[0])
    gone = counts[0]
    await asyncio.sleep(0.2)
    pacing.cancel()
    with suppress(asyncio.CancelledError):
        await pacing
    assert counts[0] == gone
    assert counts[1] > gone >= 10
    assert abs(counts[1] - counts[2]) <= 1


async def test_calls_that_cannot_be_made_are_counted_and_nothing_stays() -> None:
    target = Target(url=f"http://127.0.0.1:{free_port()}", addresses=["127.0.0.1"])
    async with Generators(target, 2) as generators:
        made = await generators.set_calls(3, 100, lambda live: None)
        assert (made.live, made.failed) == (0, {"unreachable": 3})
        sample = await generators.measure(0.1)
        assert sample.calls == []
    assert [process.returncode for process in generators._processes] == [0, 0]


def test_a_call_offers_the_address_that_leads_to_the_worker() -> None:
    assert address_towards("127.0.0.1", 9) == "127.0.0.1"
    assert all_addresses()[-1] == "127.0.0.1"


KEY = bytes(range(30))


def receiving_peer() -> tuple[Peer, Session]:
    """A caller that is connected as far as encryption goes, and the server's end of that."""
    peer = Peer("http://127.0.0.1:9")
    session = Session(Policy(key=KEY, ssrc_type=Policy.SSRC_ANY_INBOUND))
    peer._unprotect, peer._unprotect_rtcp = session.unprotect, session.unprotect_rtcp
    return peer, Session(Policy(key=KEY, ssrc_type=Policy.SSRC_ANY_OUTBOUND))


async def test_what_was_recorded_can_be_decrypted_long_after() -> None:
    """Broken, all packets of a caller would count as lost that is looked at a second later."""
    peer, sender = receiving_peer()
    writer = PacketWriter(111, 5)
    packets = [sender.protect(writer.packet(b"sound", at * 960, marker=False)) for at in range(500)]
    peer.received = [(0.0, packet) for packet in packets[:400]]
    peer._follow(packets[-1])  # as its reports do, once a second
    assert len(peer.decrypt()) == 400
    await peer.close()


async def test_reports_that_come_meanwhile_do_not_spoil_what_is_decrypted() -> None:
    """libsrtp decrypts in one buffer of the session. Broken, a packet has another one's bytes."""
    peer, sender = receiving_peer()
    writer = PacketWriter(111, 5)
    sounds = [bytes([at % 251]) * 1000 for at in range(3000)]
    packets = [writer.packet(sound, at * 960, marker=False) for at, sound in enumerate(sounds)]
    reports = [
        sender.protect_rtcp(bytes(RtcpRrPacket(ssrc=5, reports=[lost(at)]))) for at in range(3000)
    ]
    peer.received = [(0.0, sender.protect(packet)) for packet in packets]
    decrypting = asyncio.create_task(asyncio.to_thread(peer.decrypt))
    await asyncio.sleep(0)
    for report in reports:
        peer._take_reports(report)
    assert [packet for _, packet in await decrypting] == packets
    assert peer.lost == 2999
    await peer.close()


def lost(packets: int) -> RtcpReceiverInfo:
    return RtcpReceiverInfo(5, 0, packets_lost=packets, highest_sequence=0, jitter=0, lsr=0, dlsr=0)
