"""What a handler emits, raises and is told, over a real connection."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from rayrtc import (
    AdditionalOutputs,
    CloseStream,
    WebRTCError,
    get_current_context,
)
from rayrtc.cluster.codec import decode
from rayrtc.cluster.models import EndReason, InputEntry
from tests.workers.host import (
    AsyncEcho,
    Echo,
    calling,
    hosting,
    until,
)
from tests.workers.speaker import speaker, tone
from workers.connection import State


async def test_close_stream_tells_the_client_plays_what_is_left_and_ends() -> None:
    """Defect 5: FastRTC stops the track and leaves the connection open."""
    handler = speaker((tone(1000, 1.5), CloseStream("that was all")))
    async with hosting(handler) as host, calling(host) as (client, connection):
        message = await client.wait_for_message("end_stream")
        assert message["data"] == "that was all"
        assert connection.state is State.PLAYING_OUT
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])
        assert connection._handler.events == ["start_up", "shutdown"]
        heard = np.concatenate(client.samples)
        assert np.abs(heard[-48000:]).max() > 5000
        assert len(heard) > 1.2 * 48000
        assert {"type": "update_connection", "data": "closed"} in client.messages
        await client.wait_for_state("closed")


async def test_outputs_leave_before_the_client_is_told_to_fetch_them() -> None:
    outputs = [AdditionalOutputs(i, "x") for i in range(300)]
    async with hosting(speaker(*outputs)) as host, calling(host) as (client, connection):
        await until(lambda: len(host.recorder.outputs) == 300)
        assert [decode(text) for _, _, text in host.recorder.outputs] == [
            [i, "x"] for i in range(300)
        ]
        assert {output[:2] for output in host.recorder.outputs} == {
            (connection.id, connection.session)
        }
        await until(lambda: sum(m["type"] == "fetch_output" for m in client.messages) == 300)


async def test_an_output_that_cannot_be_sent_is_an_error_for_the_client() -> None:
    handler = speaker(AdditionalOutputs(object()), AdditionalOutputs(1))
    async with hosting(handler) as host, calling(host) as (client, _):
        message = await client.wait_for_message("error")
        assert "object" in message["message"]
        await until(lambda: len(host.recorder.outputs) == 1)


async def test_the_handler_goes_on_after_an_error() -> None:
    handler = speaker(ValueError("one"), *[None] * 2, ValueError("two"), tone(700, 1.2))
    async with hosting(handler) as host, calling(host) as (client, connection):
        await until(lambda: sum(m["type"] == "error" for m in client.messages) == 2)
        await until(lambda: client.samples_since(1.2) > 40000)
        assert connection.state is State.CONNECTED


@pytest.mark.parametrize("call", ["emit", "receive", "start_up"])
async def test_a_broken_handler_ends_its_connection(call: str) -> None:
    class Broken(Echo):
        def emit(self) -> Any:
            return self.broken("emit") or super().emit()

        def receive(self, frame: Any) -> None:
            super().receive(None)  # so that `emit` returns
            self.broken("receive")

        def start_up(self) -> None:
            self.broken("start_up")

        def broken(self, name: str) -> None:
            if name == call:
                raise RuntimeError("out of order")

    async with hosting(Broken()) as host, calling(host) as (client, _):
        await until(lambda: host.reasons == [EndReason.HANDLER_ERROR])
        errors = [m for m in client.messages if m["type"] == "error"]
        assert len(errors) == (1 if call == "start_up" else 10)
        assert errors[0]["data"] == errors[0]["message"] == "out of order"


async def test_an_error_that_the_handler_sent_itself_is_not_sent_twice() -> None:
    def fail() -> None:
        raise WebRTCError("no microphone")

    async with hosting(speaker(fail)) as host, calling(host) as (client, _):
        await client.wait_for_message("error")
        await asyncio.sleep(0.2)
        assert [m["data"] for m in client.messages] == ["no microphone"]
        assert host.reasons == []


@pytest.mark.parametrize("base", [Echo, AsyncEcho])
async def test_code_in_the_handler_knows_its_connection(base: type) -> None:
    seen: dict[str, str] = {}

    def see(call: str) -> None:
        seen[call] = get_current_context().webrtc_id

    if base is Echo:

        class Curious(Echo):
            def start_up(self) -> None:
                see("start_up")

            def receive(self, frame: Any) -> None:
                see("receive")
                super().receive(frame)

            def emit(self) -> Any:
                see("emit")
                return super().emit()

            def shutdown(self) -> None:
                see("shutdown")
    else:

        class Curious(AsyncEcho):  # type: ignore[no-redef]
            async def start_up(self) -> None:
                see("start_up")

            async def receive(self, frame: Any) -> None:
                see("receive")
                await super().receive(frame)

            async def emit(self) -> Any:
                see("emit")
                return await super().emit()

            async def shutdown(self) -> None:
                see("shutdown")

    async with hosting(Curious()) as host:
        async with calling(host, webrtc_id="it-is-me"):
            await until(lambda: {"start_up", "receive", "emit"} <= seen.keys())
        await until(lambda: "shutdown" in seen)
    assert set(seen.values()) == {"it-is-me"}


async def test_inputs_reach_the_handler_in_order_and_only_its_own() -> None:
    async with hosting(AsyncEcho()) as host, calling(host) as (_, connection):
        copy = connection._handler

        def entry(seq: int, args: str, session: int = connection.session) -> InputEntry:
            return InputEntry(
                kind="input", connection_id=connection.id, session=session, seq=seq, args=args
            )

        for sent in (
            entry(2, '["two"]'),
            entry(1, '["one"]'),
            entry(9, '["stranger"]', session=connection.session + 5),
            entry(3, "garbage"),
        ):
            host.connections.deliver(sent)
        assert copy.latest_args == ["__webrtc_value__", "two"]
        host.connections.deliver(entry(4, "[]"))
        assert connection.state is State.CONNECTED


async def test_send_input_and_wait_for_args() -> None:
    class Asking(Echo):
        def start_up(self) -> None:
            self.wait_for_args_sync()
            self.send_message_sync(json.dumps({"type": "log", "data": self.latest_args[1]}))

    async with hosting(Asking()) as host, calling(host) as (client, connection):
        await client.wait_for_message("send_input")
        host.connections.deliver(
            InputEntry(
                kind="input",
                connection_id=connection.id,
                session=connection.session,
                seq=1,
                args='["hello"]',
            )
        )
        assert (await client.wait_for_message("log"))["data"] == "hello"
