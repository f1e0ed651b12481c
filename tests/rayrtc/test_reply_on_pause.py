"""The turns of `ReplyOnPause`, with a detector that takes whatever is loud for speech."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from rayrtc import AdditionalOutputs, AlgoOptions, AppState, ReplyOnPause, WebRTCData
from tests.workers.host import until

SPEECH = np.full((1, 960), 5000, np.int16)
SILENCE = np.zeros((1, 960), np.int16)
PIECE = (24000, np.ones((1, 480), np.int16))
TURN = ["started_talking", "pause_detected", "response_starting"]


class Loud:
    """A model without a state."""

    def vad(self, audio: Any, options: Any) -> tuple[float, list[Any]]:
        rate, samples = audio
        assert samples.ndim == 1
        return int((np.abs(samples) > 1000).sum()) / rate, []

    def warmup(self) -> None:
        pass


class Call:
    """A connection's copy of a handler, with the two threads that a worker gives it."""

    def __init__(self, template: ReplyOnPause) -> None:
        self.handler = template.copy()
        self.messages: list[Any] = []
        self.emitted: list[Any] = []
        self.errors: list[BaseException] = []
        self.cleared = 0
        self.playing = False
        self.over = False
        self.handler.bind(asyncio.get_running_loop(), self, self.clear, lambda: self.playing)
        self.thread = threading.Thread(target=self._emit)

    def send(self, message: str) -> None:
        self.messages.append(json.loads(message))

    def clear(self) -> None:
        self.cleared += 1
        self.playing = False

    @property
    def logs(self) -> list[str]:
        return [message["data"] for message in self.messages if message["type"] == "log"]

    def _emit(self) -> None:
        while not self.over:
            try:
                item = self.handler.emit()
            except Exception as error:
                self.errors.append(error)
                continue
            if item is not None:
                self.emitted.append(item)

    async def hear(self, *frames: Any) -> None:
        """Give the handler frames; an integer repeats the one before it."""
        last: Any = None
        for frame in frames:
            for _ in range(frame - 1 if isinstance(frame, int) else 1):
                last = last if isinstance(frame, int) else frame
                await asyncio.to_thread(self.handler.receive, (48000, last))

    async def speak(self) -> None:
        """An utterance of 0.2 s and its pause."""
        await self.hear(SPEECH, 10, SILENCE, 5)


def on_pause(fn: Any, cls: type[ReplyOnPause] = ReplyOnPause, **options: Any) -> ReplyOnPause:
    algo = AlgoOptions(
        audio_chunk_duration=0.1,
        started_talking_threshold=0.05,
        max_continuous_speech_s=options.pop("longest", float("inf")),
    )
    return cls(fn, algo_options=algo, model=Loud(), **options)


@asynccontextmanager
async def call(template: ReplyOnPause) -> AsyncIterator[Call]:
    made = Call(template)
    made.thread.start()
    try:
        yield made
    finally:
        made.over = True
        await asyncio.to_thread(made.handler.shutdown)
        await asyncio.to_thread(made.thread.join, 5)
        assert not made.thread.is_alive()


async def asynchronous(audio: Any) -> AsyncIterator[Any]:
    yield PIECE


async def coroutine(audio: Any) -> Any:
    return PIECE


def generator(audio: Any) -> Iterator[Any]:
    yield PIECE


def plain(audio: Any) -> Any:
    return PIECE


@pytest.mark.parametrize("fn", [generator, asynchronous, coroutine, plain, lambda a: plain(a)])
async def test_functions_of_every_kind_reply(fn: Callable[..., Any]) -> None:
    async with call(on_pause(fn)) as made:
        for turn in (1, 2):
            await made.speak()
            await until(lambda turn=turn: made.logs == TURN * turn)
        assert made.emitted == [PIECE, PIECE]
        assert not made.errors


async def test_a_reply_without_audio_is_announced_too() -> None:
    async with call(on_pause(lambda audio: AdditionalOutputs(audio[1].shape))) as made:
        await made.speak()
        await until(lambda: made.logs == TURN)
        assert made.emitted[0].args == ((1, 960 * 15),)


async def test_long_speech_is_answered_without_a_pause() -> None:
    heard: list[int] = []
    async with call(on_pause(lambda a: heard.append(a[1].size), longest=0.3)) as made:
        await made.hear(SPEECH, 15)
        await until(lambda: heard == [960 * 15])


async def test_stereo_is_mixed() -> None:
    heard: list[Any] = []
    async with call(on_pause(heard.append, expected_layout="stereo")) as made:
        left = np.stack((SPEECH[0], np.zeros(960, np.int16)), axis=1).reshape(1, -1)
        await made.hear(left, 10, np.zeros((1, 1920), np.int16), 5)
        await until(lambda: heard)
        assert heard[0][1].shape == (1, 960 * 15)
        assert heard[0][1].max() == 2500


async def test_a_response_can_be_triggered() -> None:
    heard: list[int] = []
    async with call(on_pause(lambda audio: heard.append(audio[1].size))) as made:
        made.handler.trigger_response()
        await until(lambda: heard == [0])
        await made.hear(SPEECH, 7)  # a chunk and two frames
        made.handler.trigger_response()
        await until(lambda: heard == [0, 960 * 7])
        await until(lambda: not made.handler._responding())
        made.handler.trigger_response()
        await until(lambda: heard == [0, 960 * 7, 0])


class Answering(ReplyOnPause):
    """As in docs/migrating.md: a text box beside the call makes it answer."""

    def set_args(self, args: list[Any]) -> None:
        super().set_args(args)
        if args[-1]:
            self.trigger_response()


async def test_an_input_may_make_the_handler_answer() -> None:
    """FastRTC's applications call `stream.handlers[id].trigger_response()` in a route."""
    seen: list[tuple[int, str]] = []

    def reply(audio: Any, typed: str) -> None:
        seen.append((audio[1].size, typed))

    async with call(on_pause(reply, Answering)) as made:
        made.handler.set_args(["typed words"])
        await until(lambda: len(seen) == 1)
        made.handler.set_args([""])  # the page answers `send_input` with its box emptied
        await asyncio.sleep(0.3)
        assert seen == [(0, "typed words")]
        await made.speak()
        made.handler.set_args([""])
        await until(lambda: len(seen) == 2)
        assert seen[1][1] == ""


async def test_what_starts_up_is_played_and_gets_the_inputs() -> None:
    def reply(audio: Any, name: str) -> Any:
        return PIECE

    async with call(on_pause(reply, startup_fn=lambda name: AdditionalOutputs(name))) as made:
        made.handler.set_args(["Ada"])
        await asyncio.to_thread(made.handler.start_up)
        await until(lambda: made.emitted)
        assert made.emitted[0].args == ("Ada",)
        assert made.logs == []


async def test_a_subclass_keeps_what_it_adds_and_decides_on_pauses() -> None:
    class Pushed(ReplyOnPause):
        def __init__(self, fn: Any, word: str = "none", **options: Any) -> None:
            super().__init__(fn, **options)
            self.word = word

        def determine_pause(self, audio: np.ndarray, sampling_rate: int, state: AppState) -> bool:
            state.stream = audio
            return self.word == "push" and len(audio) == 960 * 3

    heard: list[int] = []
    template = on_pause(lambda audio: heard.append(audio[1].size), Pushed, word="push")
    async with call(template) as one, call(template) as other:
        assert isinstance(one.handler, Pushed)
        assert one.handler.state is not other.handler.state
        await one.hear(SILENCE, 3)
        await until(lambda: heard == [960 * 3])


async def test_known_inputs_do_when_no_new_ones_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayrtc.reply_on_pause.KNOWN_ARGS_TIMEOUT", 0.1)
    monkeypatch.setattr("rayrtc.reply_on_pause.ARGS_TIMEOUT", 0.1)
    got: list[str] = []

    async with call(on_pause(lambda audio, *args: got.append(args[0]))) as made:
        await made.speak()
        await until(lambda: made.errors)
        assert isinstance(made.errors[0], TimeoutError)
        assert "inputs" in str(made.errors[0])
        made.handler.set_args(["a"])
        for _ in range(2):
            count = len(got)
            await made.speak()
            await until(lambda count=count: len(got) > count)
        made.handler.set_args(["b"])
        await made.speak()
        await until(lambda: got == ["a", "a", "b"])


async def test_the_callers_turn_carries_the_audio() -> None:
    got: list[Any] = []
    template = on_pause(got.append)
    async with call(template) as made:
        made.handler.set_args([WebRTCData(webrtc_id="a", textbox="hello")])
        await made.speak()
        await until(lambda: got)
        assert got[0].textbox == "hello"
        assert got[0].audio[1].shape == (1, 960 * 15)


async def test_a_phone_gives_the_outputs_of_a_turn_to_the_next() -> None:
    got: list[Any] = []

    def reply(audio: Any, count: int = 0) -> Any:
        got.append(count)
        return AdditionalOutputs(count + 1)

    async with call(on_pause(reply)) as made:
        made.handler.phone_mode = True
        for turn in (1, 2, 3):
            await made.speak()
            await until(lambda turn=turn: made.logs == TURN * turn)
    assert got == [0, 1, 2]
    assert not any(message["type"] == "send_input" for message in made.messages)


async def test_a_generator_that_blocks_is_closed_where_it_yields() -> None:
    go_on, blocked, closed = threading.Event(), threading.Event(), threading.Event()
    replies = 0

    def reply(audio: Any) -> Iterator[Any]:
        nonlocal replies
        replies += 1
        if replies > 1:
            yield "second"
            return
        try:
            yield PIECE
            blocked.set()
            go_on.wait(5)
            yield "stale"
        finally:
            closed.set()

    async with call(on_pause(reply)) as made:
        await made.speak()
        await asyncio.to_thread(blocked.wait, 5)
        await made.hear(SPEECH, 10)
        assert made.cleared, "the queued audio is cleared when speech starts"
        assert not closed.is_set()
        await made.hear(SILENCE, 5)
        go_on.set()
        await until(lambda: "second" in made.emitted)
        assert closed.is_set()
        assert made.emitted == [PIECE, "second"]


async def test_the_end_of_the_call_is_not_held_up_by_a_generator_that_blocks() -> None:
    go_on, blocked = threading.Event(), threading.Event()

    def reply(audio: Any) -> Iterator[Any]:
        blocked.set()
        go_on.wait(10)
        yield PIECE

    made = Call(on_pause(reply))
    made.thread.start()
    await made.speak()
    await asyncio.to_thread(blocked.wait, 5)
    async with asyncio.timeout(4):
        made.over = True
        await asyncio.to_thread(made.handler.shutdown)
    go_on.set()
    await asyncio.to_thread(made.thread.join, 5)
    assert not made.thread.is_alive()
    assert made.emitted == []


async def test_a_reply_that_may_not_be_interrupted_holds_while_it_plays() -> None:
    """Defect 10, by the frame."""
    calls: list[int] = []
    async with call(on_pause(lambda a: calls.append(1), can_interrupt=False)) as made:
        await made.speak()
        await until(lambda: made.logs == TURN)
        made.playing = True  # generated, not played
        await made.speak()
        made.handler.trigger_response()
        assert made.logs == TURN
        assert not made.cleared
        made.playing = False
        await made.speak()
        await until(lambda: len(calls) == 2)


async def test_an_async_reply_that_ignores_its_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rayrtc.replies.CLOSE_TIMEOUT", 0.2)
    calls = 0
    let_go = asyncio.Event()

    async def reply(audio: Any) -> AsyncIterator[Any]:
        nonlocal calls
        calls += 1
        while calls == 1 and not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        yield PIECE

    async with call(on_pause(reply)) as made:
        await made.speak()
        await until(lambda: calls == 1)
        await made.speak()
        await until(lambda: made.emitted == [PIECE])
        assert calls == 2
        let_go.set()
        await asyncio.sleep(0.1)
        assert made.emitted == [PIECE]


@pytest.mark.parametrize("kind", [generator, asynchronous])
async def test_no_frame_is_told_twice_and_no_word_is_lost(kind: Callable[..., Any]) -> None:
    """Frames have numbers: speech above 2000, silence below 900. Replies are talked over."""
    told: list[list[int]] = []
    spoken: list[int] = []
    sent = 0

    async def waiting(audio: Any) -> AsyncIterator[Any]:
        told.append(audio[1][0, ::960].tolist())
        yield PIECE
        await asyncio.sleep(30)

    def blocking(audio: Any) -> Iterator[Any]:
        told.append(audio[1][0, ::960].tolist())
        for _ in range(1000):
            time.sleep(0.001)
            yield PIECE

    async def hear(made: Call, speech: bool, count: int) -> None:
        nonlocal sent
        for _ in range(count):
            sent += 1
            number = sent + (2000 if speech else 0)
            if speech:
                spoken.append(number)
            await made.hear(np.full((1, 960), number, np.int16))

    template = on_pause(blocking if kind is generator else waiting)
    template.algo_options.speech_threshold = 0.03  # the last frame of an utterance ends it
    async with call(template) as made:
        for turn in range(12):
            await hear(made, False, turn % 7)  # utterances begin anywhere in a chunk
            await hear(made, True, 7 + turn % 3)
            made.playing = True
            while made.logs.count("pause_detected") == turn:
                await hear(made, False, 1)
            await until(lambda turn=turn: made.logs == TURN * (turn + 1))
    assert len(told) == 12
    numbers = [number for utterance in told for number in utterance]
    order = [number % 2000 for number in numbers]
    assert order == sorted(set(order)), "a frame was told twice"
    assert [number for number in numbers if number > 2000] == spoken


async def test_inputs_are_asked_for_once_a_turn_and_those_of_a_turn_are_told_once() -> None:
    got: list[str] = []

    def reply(audio: Any, word: str) -> Iterator[Any]:
        got.append(word)
        while True:
            time.sleep(0.001)
            yield PIECE

    async with call(on_pause(reply)) as made:
        for turn in range(3):
            await made.speak()

            def asked() -> int:
                return sum(message["type"] == "send_input" for message in made.messages)

            await until(lambda turn=turn, asked=asked: asked() == turn + 1)
            assert len(got) == turn, "it did not wait for inputs of its own"
            made.handler.set_args([f"word {turn}"])
            await until(lambda turn=turn: len(got) == turn + 1)
    assert got == ["word 0", "word 1", "word 2"]
    assert asked() == 3
