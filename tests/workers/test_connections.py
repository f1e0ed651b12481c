"""Offers, limits and what is early or late: where slots leak and strangers' calls are taken."""

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest

from rayrtc.cluster.models import CandidateRequest, EndReason, InputEntry, OfferRequest
from rayrtc.errors import (
    ConnectionAlreadyExists,
    ConnectionClosed,
    InvalidCandidate,
    InvalidSDP,
    TooLarge,
    UnknownConnection,
    UnsupportedTrack,
)
from tests.clients import AiortcClient
from tests.workers.host import (
    AsyncEcho,
    Echo,
    calling,
    handler_threads,
    hosting,
    until,
)
from workers import connections as module
from workers.connection import Refused, State

CANDIDATE = {
    "candidate": "candidate:0 1 UDP 2122252543 127.0.0.1 9999 typ host",
    "sdpMid": "0",
    "sdpMLineIndex": 0,
}


async def offer_sdp() -> str:
    client = AiortcClient("")
    sdp = (await client.create_offer())["sdp"]
    await client.close()
    return sdp


def sections(sdp: str) -> list[str]:
    """The session part and the media sections."""
    head, *media = sdp.split("m=")
    return [head, *("m=" + section for section in media)]


async def test_the_same_offer_again_gets_the_same_answer() -> None:
    """The control plane repeats a request whose answer it lost."""
    async with hosting(Echo()) as host:
        request = host.request("twice", await offer_sdp())
        answers = await asyncio.gather(*(host.connections.offer(request) for _ in range(3)))
        assert len({answer.sdp for answer in answers}) == 1
        assert len(host.connections) == host.connections.sessions == 1


async def test_a_full_worker_refuses_and_takes_again_when_one_leaves() -> None:
    sdp = await offer_sdp()
    async with hosting(Echo(), slots=1) as host:
        await host.connections.offer(host.request("one", sdp))
        with pytest.raises(Refused):
            await host.connections.offer(host.request("two", sdp))
        await host.connections.close("one", EndReason.SERVER_CLOSED)
        await host.connections.offer(host.request("two", sdp))
        assert [live.connection_id for live in host.connections.live()] == ["two"]


async def test_a_draining_worker_refuses() -> None:
    async with hosting(Echo()) as host:
        host.connections.accepting = False
        with pytest.raises(Refused):
            await host.connections.offer(host.request("one", await offer_sdp()))


async def test_a_newer_session_replaces_and_an_older_one_is_refused() -> None:
    sdp = await offer_sdp()
    async with hosting(Echo()) as host:
        await host.connections.offer(host.request("id", sdp, session=5))
        await host.connections.offer(host.request("id", sdp, session=6))
        await until(lambda: host.reasons == [EndReason.REPLACED])
        with pytest.raises(ConnectionClosed):
            await host.connections.offer(host.request("id", sdp, session=5))
        with pytest.raises(ConnectionAlreadyExists):
            await host.connections.offer(host.request("id", sdp, session=4))
        assert [live.session for live in host.connections.live()] == [6]


GARBAGE = [
    "",
    "garbage",
    "v=0\r\n",
    "\r\n".join(["v=0"] * 1000),
    "v=x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    "m=audio\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF x\r\n",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    "v=0\r\na=fingerprint\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
    "v=0\r\na=setup:nonsense\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
    "\x00" * 100,
    "m=" * 1000,
    "\ud800",
    "x" * (128 * 1024 + 1),
]


@pytest.mark.parametrize("sdp", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_refused_and_holds_nothing(sdp: str) -> None:
    async with hosting(Echo()) as host:
        with pytest.raises((InvalidSDP, UnsupportedTrack)):
            await host.connections.offer(host.request("id", sdp))
        await until(lambda: not len(host.connections))
        assert host.ended == []
        assert host.recorder.ends == []
        await until(lambda: handler_threads() == 0)


@pytest.mark.parametrize(
    "missing",
    [
        "a=ice-ufrag",
        "a=ice-pwd",
        "a=fingerprint",
        "a=setup",
        "a=sctp-port",
        "a=rtcp-mux",
        "a=rtpmap",
    ],
)
async def test_an_offer_that_lacks_a_line_is_refused_with_400(missing: str) -> None:
    sdp = "".join(
        line
        for line in (await offer_sdp()).splitlines(keepends=True)
        if not line.startswith(missing)
    )
    async with hosting(Echo()) as host:
        with pytest.raises((InvalidSDP, UnsupportedTrack)) as refusal:
            await host.connections.offer(host.request("id", sdp))
        assert refusal.value.status == 400
        await until(lambda: not len(host.connections))


async def test_an_offer_cut_or_changed_anywhere_never_fails_unexpectedly() -> None:
    sdp = await offer_sdp()
    lines = sdp.splitlines(keepends=True)
    variants = [sdp[: len(sdp) * i // 20] for i in range(20)]
    variants += ["".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))]
    variants += [
        "".join([*lines[:i], lines[i].replace(":", ":x"), *lines[i + 1 :]])
        for i in range(len(lines))
    ]
    async with hosting(AsyncEcho()) as host:
        for variant in variants:
            try:
                await host.connections.offer(host.request("id", variant))
            except (InvalidSDP, UnsupportedTrack):
                pass
            else:
                await host.connections.close("id", EndReason.SERVER_CLOSED)
        await until(lambda: not len(host.connections))


@pytest.mark.parametrize("allow", [False, True])
async def test_extra_tracks_are_refused_or_left_unanswered(allow: bool) -> None:
    client = AiortcClient("")
    client.pc.addTransceiver("video")
    async with hosting(Echo(), allow_extra_tracks=allow) as host:
        if not allow:
            with pytest.raises(UnsupportedTrack):
                await host.call(client)
        else:
            await host.call(client)
            await until(lambda: client.samples)
            video = next(t for t in client.pc.getTransceivers() if t.kind == "video")
            assert video.currentDirection == "inactive"
        await client.close()


async def test_kinds_that_the_stream_does_not_take_are_refused() -> None:
    head, *media = sections(await offer_sdp())
    audio = next(section for section in media if section.startswith("m=audio"))
    data = next(section for section in media if section.startswith("m=application"))
    async with hosting(Echo(), allow_extra_tracks=True) as host:
        for sdp in (
            head + data,
            head + audio + audio.replace("m=audio", "m=text"),
            head + audio * 40,
            head + audio + data * 2,
        ):
            with pytest.raises(UnsupportedTrack):
                await host.connections.offer(host.request("id", sdp))
    async with hosting(Echo()) as host:
        with pytest.raises(UnsupportedTrack):
            await host.connections.offer(host.request("id", head + audio * 2))


async def test_a_handler_that_cannot_be_copied_refuses_the_offer() -> None:
    class Faulty(Echo):
        def copy(self) -> Any:
            raise StopIteration

    async with hosting(Faulty()) as host:
        with pytest.raises(Refused):
            await host.connections.offer(host.request("id", await offer_sdp()))
        await until(lambda: not len(host.connections))


async def test_shutdown_is_called_for_a_handler_whose_call_never_connected() -> None:
    copies: list[Echo] = []

    class Counted(Echo):
        def copy(self) -> "Counted":
            copies.append(made := Counted())
            return made

    sdp = await offer_sdp()
    codec_free = sdp.replace("opus/48000", "none/48000").replace("G722/8000", "none/8000")
    codec_free = codec_free.replace("PCMU/8000", "none/8000").replace("PCMA/8000", "none/8000")
    async with hosting(Counted()) as host:
        with pytest.raises(UnsupportedTrack):
            await host.connections.offer(host.request("refused", codec_free))
        await host.connections.offer(host.request("never", sdp))
        await host.connections.close("never", EndReason.SERVER_CLOSED)
        await until(lambda: not len(host.connections))
        assert [copy.shutdowns for copy in copies] == [1, 1]


async def test_candidates_of_nobody_and_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANDIDATE_WAIT", 0.2)
    async with hosting(Echo()) as host:

        def candidate(connection_id: str, value: Any = CANDIDATE) -> Any:
            request = CandidateRequest(connection_id=connection_id, candidate=value)
            return host.connections.candidate(request)

        with pytest.raises(UnknownConnection):
            await candidate("nobody")
        with pytest.raises(InvalidCandidate):
            await candidate("nobody", {"candidate": "x"})
        async with calling(host, webrtc_id="past"):
            taken = 0
            with suppress(TooLarge):
                while taken < 100:
                    await candidate("past")
                    taken += 1
            assert 0 < taken < 64  # those of the offer count too
            await candidate("past", None)
        await until(lambda: not len(host.connections))
        with pytest.raises(ConnectionClosed):
            await candidate("past")


async def test_inputs_that_overtake_their_offer_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(seq: int, session: int, args: str) -> InputEntry:
        return InputEntry(kind="input", connection_id="id", session=session, seq=seq, args=args)

    async with hosting(AsyncEcho()) as host:
        for early in (entry(3, 7, "[3]"), entry(2, 7, "[2]"), entry(9, 8, "[9]")):
            host.connections.deliver(early)
        request = OfferRequest(
            connection_id="id",
            session=7,
            stream="test",
            sdp=await offer_sdp(),
            inputs="[1]",
            inputs_seq=1,
        )
        await host.connections.offer(request)
        connection = host.connections._connections["id"]
        assert connection._handler.latest_args == ["__webrtc_value__", 3]
        for number in range(1000):
            host.connections.deliver(
                InputEntry(kind="input", connection_id=str(number), session=1, seq=1)
            )
        assert len(host.connections._early) <= module.MAX_EARLY_INPUTS
        monkeypatch.setattr(module, "EARLY_INPUTS_TTL", 0.0)
        host.connections.deliver(entry(1, 99, "[]"))
        assert len(host.connections._early) == 1


async def test_what_the_control_plane_gave_up_is_closed_or_refused_when_it_comes() -> None:
    sdp = await offer_sdp()
    async with hosting(Echo()) as host:
        await host.connections.release("late", 3)
        with pytest.raises(ConnectionClosed):
            await host.connections.offer(host.request("late", sdp, session=3))
        await host.connections.offer(host.request("here", sdp, session=4))
        await host.connections.release("here", 4)
        await until(lambda: not len(host.connections))
        assert host.ended == []  # its slot is the control plane's


async def test_a_replaced_session_has_ended_when_the_control_plane_has_its_answer() -> None:
    """What follows finds its slot free, and its readers all outputs of the session before."""
    sdp = await offer_sdp()
    async with hosting(Echo(), slots=1) as host:
        await host.connections.offer(host.request("id", sdp, session=4))
        await host.connections.release("id", 4, EndReason.REPLACED)
        assert host.reasons == [EndReason.REPLACED]
        assert not len(host.connections)
        await host.connections.offer(host.request("id", sdp, session=5))
        await host.connections.release("id", 4, EndReason.REPLACED)
        assert [live.session for live in host.connections.live()] == [5]


async def test_close_all_closes_all_and_takes_no_more() -> None:
    async with hosting(Echo()) as host, calling(host) as (client, connection):
        sdp = await offer_sdp()
        await host.connections.offer(host.request("second", sdp))
        await host.connections.close_all(EndReason.WORKER_STOPPED, 5)
        assert not len(host.connections)
        assert host.reasons == [EndReason.WORKER_STOPPED] * 2
        assert connection.state is State.CLOSED
        await client.wait_for_state("closed")
        with pytest.raises(Refused):
            await host.connections.offer(host.request("third", sdp))


async def test_a_registry_that_fails_does_not_keep_the_connection() -> None:
    async with hosting(Echo()) as host:

        async def fail(*_: Any) -> None:
            raise ConnectionError("Redis is away")

        host.connections._on_end = fail
        await host.connections.offer(host.request("id", await offer_sdp()))
        await host.connections.close("id", EndReason.SERVER_CLOSED)
        assert not len(host.connections)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors in /proc")  # noqa: PTH110
@pytest.mark.parametrize("handler", [Echo, AsyncEcho])
async def test_calls_leave_no_task_thread_or_descriptor(handler: type) -> None:
    """`python -m tests.workers.cycles 1000` is the long form, with memory."""

    def held() -> tuple[int, int, int]:
        fds = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        return len(asyncio.all_tasks()), handler_threads(), fds

    async with hosting(handler()) as host:
        before = None
        for _ in range(6):
            async with calling(host) as (client, _connection):
                await until(lambda client=client: client.samples)
            await until(lambda: not len(host.connections))
            sdp = await offer_sdp()
            await host.connections.offer(host.request("half", sdp))
            await host.connections.close("half", EndReason.CONNECT_TIMEOUT)
            before = before or held()  # the first call imports and starts what stays
        await until(lambda: held() <= before)


async def test_a_client_that_asks_for_its_end_is_answered_after_it() -> None:
    """WHIP's DELETE: its slot is free then, and the end is its own."""
    async with hosting(AsyncEcho()) as host, calling(host) as (client, connection):
        await host.connections.release(connection.id, connection.session, EndReason.CLIENT_CLOSED)
        assert host.reasons == [EndReason.CLIENT_CLOSED]
        assert not len(host.connections)
        await client.wait_for_state("closed")
        assert {"type": "update_connection", "data": "closed"} not in client.messages
        # a repeated request finds nothing to end
        await host.connections.release(connection.id, connection.session, EndReason.CLIENT_CLOSED)


async def test_a_handler_that_does_not_end_holds_up_the_answer_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RELEASE_WAIT", 0.1)

    class Lingering(AsyncEcho):
        async def shutdown(self) -> None:
            await asyncio.sleep(1)

    async with hosting(Lingering()) as host, calling(host) as (_, connection):
        await host.connections.release(connection.id, connection.session, EndReason.CLIENT_CLOSED)
        assert connection.reason is EndReason.CLIENT_CLOSED
        assert host.reasons == []
        await until(lambda: host.reasons)
