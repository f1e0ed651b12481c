"""Stop words: the mechanism with a scripted recogniser, and the recognisers by themselves."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rayrtc import ReplyOnStopWords, transcribing
from rayrtc.stop_words import HeardStopWord, stop_word_in
from tests.clients import FRAME, RATE
from tests.rayrtc.test_reply_on_pause import PIECE, SILENCE, SPEECH, TURN, Call, call, on_pause
from tests.speech import recording
from tests.workers.host import until

WORD = np.full((1, 960), 20_000, np.int16)


class Scripted:
    """Hears the first stop word in a very loud frame."""

    def __init__(self, stop_words: Sequence[str]) -> None:
        self.stop_words = stop_words
        self.resets = 0

    def hear(self, audio: Any) -> str | None:
        _rate, samples = audio
        assert samples.ndim == 1
        return self.stop_words[0] if samples.max() >= WORD.max() else None

    def reset(self) -> None:
        self.resets += 1


class Late(Scripted):
    """Hears it 0.16 s later."""

    frames = 0

    def hear(self, audio: Any) -> Any:
        if super().hear(audio) or self.frames:
            self.frames += 1
        return HeardStopWord("computer", 0.16) if self.frames == 9 else None

    def reset(self) -> None:
        self.frames = 0


def on_words(fn: Any, recognition: Any = Scripted, **options: Any) -> ReplyOnStopWords:
    options = {"stop_words": ["computer"], "recognition": recognition, **options}
    made = on_pause(fn, ReplyOnStopWords, **options)
    assert isinstance(made, ReplyOnStopWords)
    return made


def stop_words(made: Call) -> list[str]:
    return [message["data"] for message in made.messages if message["type"] == "stopword"]


async def test_what_follows_the_stop_word_is_replied_to() -> None:
    heard: list[int] = []

    def reply(audio: Any) -> Any:
        heard.append(audio[1].size)
        return PIECE

    async with call(on_words(reply)) as made:
        await made.speak()
        await asyncio.sleep(0.1)
        assert made.messages == [], "speech without the word is nobody's business"
        for turn in (1, 2):
            await made.hear(SPEECH, 8, WORD)
            assert stop_words(made) == ["computer"] * turn
            await made.speak()
            await until(lambda turn=turn: made.logs == TURN * turn)
            await made.speak()
            assert made.logs == TURN * turn, "the next turn needs the word again"
        assert heard == [960 * 15] * 2
        recogniser = made.handler._recogniser  # type: ignore[attr-defined]
        assert recogniser.resets == 2, "it may hear the word of the last turn again"


async def test_what_was_said_before_the_word_was_recognised_is_not_lost() -> None:
    heard: list[np.ndarray] = []

    def reply(audio: Any) -> Any:
        heard.append(audio[1])
        return PIECE

    async with call(on_words(reply, Late)) as made:
        for turn in (1, 2):
            await made.hear(SPEECH, 20, WORD, SPEECH, 10)
            assert stop_words(made) == ["computer"] * turn
            await made.hear(SILENCE, 10)
            await until(lambda turn=turn: made.logs == TURN * turn)
    for samples in heard:
        assert (samples == SPEECH[0, 0]).sum() == 960 * 10, (
            "from the word on, and nothing before it"
        )
        assert WORD[0, 0] not in samples


async def test_the_stop_word_interrupts_and_mere_speech_does_not() -> None:
    replies: list[str] = []

    def reply(audio: Any) -> Iterator[Any]:
        replies.append("started")
        try:
            while True:
                yield None
        finally:
            replies.append("finished")

    async with call(on_words(reply)) as made:
        await made.hear(WORD)
        await made.speak()
        await until(lambda: replies == ["started"])
        await made.speak()
        assert replies == ["started"]
        await made.hear(WORD)
        await until(lambda: replies == ["started", "finished"])
        assert made.cleared
        await made.speak()
        await until(lambda: replies == ["started", "finished", "started"])
        assert made.handler.copy().recognition is Scripted


def test_stop_words_in_a_text() -> None:
    assert stop_word_in("Hey,  Computer! Stop.", ["hey computer"]) == "hey computer"
    assert stop_word_in("computers", ["computer"]) is None
    assert stop_word_in("It's o'clock", ["Stop!", "O'Clock"]) == "O'Clock"
    assert stop_word_in("anything", ["..."]) is None


def test_any_speech_to_text_model_hears_stop_words() -> None:
    class Model:
        lengths: list[int] = []  # noqa: RUF012

        def stt(self, audio: Any) -> str:
            rate, samples = audio
            assert rate == 16000
            self.lengths.append(samples.size)
            return "Hello, computer." if len(self.lengths) == 6 else "Nothing"

    model = Model()
    recogniser = transcribing(model)(["computer"])
    heard = [recogniser.hear((48000, SPEECH[0])) for _ in range(160)]
    assert [word for word in heard if word] == ["computer"]
    assert max(model.lengths) == 32000, "two seconds at once"
    assert len(model.lengths) == 6
    recogniser.reset()
    assert [recogniser.hear((48000, SPEECH[0])) for _ in range(26)] == [None] * 26
    assert model.lengths[6:] == [model.lengths[0]], "what was heard before the word is forgotten"
    recogniser.reset()
    assert [recogniser.hear((48000, SILENCE[0])) for _ in range(100)] == [None] * 100
    assert len(model.lengths) == 7, "silence is not transcribed"


def test_what_follows_the_word_in_one_breath_is_the_request() -> None:
    """Whatever a machine does to the sound of a call: here each frame arrives."""
    told: list[str] = []
    handler = ReplyOnStopWords(lambda audio: None, ["computer"]).copy()
    handler.send_message_sync = told.append
    silence = np.zeros(RATE, np.int16)
    heard = np.concatenate((silence, recording("computer"), silence, silence))
    for frame in heard[: len(heard) // FRAME * FRAME].reshape(-1, 1, FRAME):
        handler.receive((RATE, frame))
    assert [json.loads(message)["data"] for message in told] == [
        "computer",
        "started_talking",
        "pause_detected",
    ]
