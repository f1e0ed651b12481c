"""Sockets that are read together: what they have, in order, and how reading ends."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from control_plane import polled_sockets as module
from control_plane.polled_sockets import PolledSocket, PolledSockets, polled_sockets

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class Peer(asyncio.Protocol):
    """A transport whose socket is polled, and the socket at its other end."""

    transport: asyncio.Transport
    polled: PolledSocket

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.unpolled = b""
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.unpolled += data
        self.changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.polled.stop()
        self.lost.set()

    def take(self, data: bytes) -> None:
        self.taken.append(data)
        self.changed.set()

    async def change(self) -> None:
        """Wait until something was taken, or read by the transport."""
        await asyncio.wait_for(self.changed.wait(), 5)
        self.changed.clear()


async def peer(sockets: PolledSockets) -> tuple[Peer, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    made = Peer()
    await asyncio.get_running_loop().create_connection(lambda: made, sock=ours)
    made.polled = PolledSocket(sockets, made.transport, made.take)
    made.polled.resume()
    return made, other


@LOOPS
def test_what_comes_in_the_same_tick_is_taken_together(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.5)

    async def scenario() -> None:
        sockets = polled_sockets()
        assert polled_sockets() is sockets
        one, other_one = await peer(sockets)
        two, other_two = await peer(sockets)
        with other_one, other_two:
            other_one.send(b"awake")
            await one.change()
            for part in (b"a", b"b", b"c"):
                other_one.send(part)
                other_two.send(part)
                await asyncio.sleep(0)
            await one.change()
            assert one.taken == [b"awake", b"abc"]
            assert two.taken == [b"abc"]
        for each in (one, two):
            await asyncio.wait_for(each.lost.wait(), 5)

    run(scenario())


@LOOPS
def test_one_that_is_paused_is_not_read(run: Run) -> None:
    async def scenario() -> None:
        one, other = await peer(PolledSockets())
        with other:
            one.polled.pause()
            other.send(b"later")
            await asyncio.sleep(0.1)
            assert not one.taken
            one.polled.resume()
            await one.change()
            assert one.taken == [b"later"]
            assert not one.unpolled

    run(scenario())


@LOOPS
def test_after_stop_the_transport_may_read_again(run: Run) -> None:
    async def scenario() -> None:
        one, other = await peer(PolledSockets())
        with other:
            one.polled.stop()
            one.polled.resume()
            one.transport.resume_reading()
            other.send(b"x")
            await one.change()
            await asyncio.sleep(0.05)
            assert (one.taken, one.unpolled) == ([], b"x")

    run(scenario())


@LOOPS
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_the_end_is_told_by_the_transport(run: Run, reset: bool) -> None:
    async def scenario() -> None:
        one, other = await peer(PolledSockets())
        two, other_two = await peer(one.polled._sockets)
        with other_two:
            if reset:
                one.transport.write(b"never read")
                await asyncio.sleep(0.05)
            else:
                other.send(b"last words")
            other.close()
            await asyncio.wait_for(one.lost.wait(), 5)
            assert b"".join(one.taken) == (b"" if reset else b"last words")
            other_two.send(b"still here")
            await two.change()
            assert two.taken == [b"still here"]

    run(scenario())


@LOOPS
def test_what_was_sent_before_a_reset_is_taken(run: Run) -> None:
    """Also if it is noticed by what is written to the one that has reset."""

    async def scenario() -> None:
        sockets = PolledSockets()
        one, other_one = await peer(sockets)
        two, other_two = await peer(sockets)
        one.polled._take = two.transport.write
        with other_one:
            two.transport.write(b"never read")
            await asyncio.sleep(0.05)
            other_one.send(b"x")
            other_two.send(b"last words")
            other_two.close()
            await asyncio.wait_for(two.lost.wait(), 5)
            assert two.taken == [b"last words"]

    run(scenario())


@LOOPS
def test_one_that_is_closing_is_not_looked_at(run: Run) -> None:
    """It is still there while its transport has something to send."""

    async def scenario() -> None:
        sockets = PolledSockets()
        one, other = await peer(sockets)
        with other:
            one.transport.set_write_buffer_limits(high=1 << 30)
            one.transport.write(bytes(20_000_000))
            one.transport.close()
            other.send(b"too late")
            await asyncio.sleep(5 * module.TICK)
            assert not one.lost.is_set()
            assert not sockets._selector.get_map()
            assert not one.taken

    run(scenario())


@LOOPS
def test_one_that_is_closed_is_not_read(run: Run) -> None:
    async def scenario() -> None:
        sockets = PolledSockets()
        one, other = await peer(sockets)
        with other:
            other.send(b"too late")
            one.transport.abort()
            await asyncio.wait_for(one.lost.wait(), 5)
            again = PolledSocket(sockets, one.transport, one.take)
            again.resume()
            await asyncio.sleep(0.05)
            assert not one.taken

    run(scenario())


@LOOPS
def test_an_error_ends_the_one_that_it_is_in(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        sockets = PolledSockets()
        one, other_one = await peer(sockets)
        two, other_two = await peer(sockets)

        def fail(data: bytes) -> None:
            raise ValueError("a defect")

        one.polled._take = fail
        with other_one, other_two:
            other_one.send(b"x")
            other_two.send(b"y")
            await two.change()
            await asyncio.wait_for(one.lost.wait(), 5)
            other_two.send(b"z")
            await two.change()
            assert two.taken == [b"y", b"z"]

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "cannot be passed on" in caplog.text


@LOOPS
def test_each_is_taken_in_its_own_context(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is logged of a call would have the id of the one that came first."""
    name: ContextVar[str] = ContextVar("name", default="nobody's")
    takes: list[str] = []
    ticks: set[str] = set()

    async def scenario() -> None:
        sockets = PolledSockets()
        tick = sockets._tick

        def seen() -> None:
            ticks.add(name.get())
            tick()

        monkeypatch.setattr(sockets, "_tick", seen)
        others = []
        for own in ("one's", "two's"):
            name.set(own)
            made, other = await peer(sockets)
            made.polled._take = lambda data: takes.append(name.get())
            others.append(other)
        for other in others:
            with other:
                other.send(b"x")
        async with asyncio.timeout(5):
            while len(takes) < 2:
                await asyncio.sleep(module.TICK)

    run(scenario())
    assert sorted(takes) == ["one's", "two's"]
    assert ticks == {"nobody's"}


@LOOPS
def test_nothing_is_looked_at_while_nothing_comes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        sockets = PolledSockets()
        looks = 0
        tick = sockets._tick

        def counted() -> None:
            nonlocal looks
            looks += 1
            tick()

        monkeypatch.setattr(sockets, "_tick", counted)
        one, other = await peer(sockets)
        with other:
            for count in range(1, 4):
                other.send(b"x")
                await one.change()
                await asyncio.sleep(10 * module.TICK)
                # one that found it, one that found nothing
                assert looks == 2 * count
            one.polled.pause()
            one.polled.resume()
            other.send(b"y")
            await one.change()
            assert one.taken == [b"x", b"x", b"x", b"y"]

    run(scenario())
