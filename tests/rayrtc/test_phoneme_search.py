"""The default recogniser of stop words: its search on made-up likelihoods, and its model."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from rayrtc.phoneme_search import COST, HamaModel, PhonemeRecogniser, Search, get_phoneme_model
from rayrtc.stop_words import HeardStopWord
from tests.speech import noise, recording

NAMES = ["<blank>", "<wb>", *"abdkopt"]
BLANK = -20.0


class Letters:
    """A language in which each letter is a phoneme."""

    phonemes = {name: column for column, name in enumerate(NAMES)}  # noqa: RUF012
    pauses = [0, 1]  # noqa: RUF012

    def pronounce(self, words: str) -> list[str]:
        return list(words)

    def likelihoods(self, samples: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def rows(heard: str) -> np.ndarray:
    """A frame for each character; `.` is a pause."""
    made = np.full((len(heard), len(NAMES)), BLANK, np.float32)
    for index, character in enumerate(heard):
        made[index, Letters.phonemes.get(character, 0)] = 0.0
    return made


def search(word: str = "boat") -> Search:
    return Search(Letters(), word, COST)


@pytest.mark.parametrize("heard", ["boat", "..b.o..a.t..", "bbooaatt", "taboat", "boboat"])
def test_a_word_is_found_where_it_ends(heard: str) -> None:
    assert search().look(rows(heard)) == heard.index(
        "t", heard.index("a", 3) if "." in heard else 3
    )


@pytest.mark.parametrize("heard", ["", "....", "bo.t", "baot", "bodat", "boap"])
def test_what_is_not_the_word_is_not_found(heard: str) -> None:
    assert search().look(rows(heard)) is None


def test_a_similar_phoneme_is_taken_and_two_are_too_many_for_a_short_word() -> None:
    assert search("kodak").look(rows("kotak")) == 4
    assert search("tok").look(rows("dog".replace("g", "k"))) == 2
    assert search("tod").look(rows("dop")) is None


def test_a_word_goes_on_over_pieces_and_a_short_pause_but_not_for_ever() -> None:
    made = search()
    assert made.look(rows("bo")) is None
    made.rest(20)
    assert made.look(rows("at")) == 1
    made.reset()
    assert made.look(rows("at")) is None
    assert made.look(rows("bo")) is None
    made.rest(60)
    assert made.look(rows("at")) is None, "two halves of two sentences"


def test_a_stop_word_has_letters() -> None:
    with pytest.raises(ValueError, match=r"'\.\.\.'"):
        search("...")


def frames(samples: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for at in range(0, len(samples), 960):
        yield 48000, samples[at : at + 960]


ROOM = noise(0.9, level=0.0005)


def heard(recogniser: PhonemeRecogniser, samples: np.ndarray) -> list[HeardStopWord]:
    recogniser.reset()
    found = map(recogniser.hear, frames(np.concatenate((ROOM[:9600], samples, ROOM))))
    return [word for word in found if word is not None]


def test_a_spoken_word_is_heard_and_others_are_not() -> None:
    recogniser = PhonemeRecogniser(["Good Morning!", "Computer!"])
    (found,) = heard(recogniser, recording("computer"))
    assert found.word == "Computer!"
    for other in (recording("weather"), recording("story"), noise(2.0), noise(1.0, level=0.3)):
        assert heard(recogniser, other) == []


def test_it_tells_how_long_ago_the_word_ended() -> None:
    ends = []
    for lead in (4800, 14400, 24000, 33600):
        recogniser = PhonemeRecogniser(["weather"])
        passed = 0
        for frame in frames(np.concatenate((ROOM[:lead], recording("weather"), ROOM))):
            passed += len(frame[1])
            if (found := recogniser.hear(frame)) is not None:
                assert found.ago > 0
                ends.append(passed / 48000 - found.ago - lead / 48000)
                break
    assert len(ends) == 4
    assert max(ends) - min(ends) < 0.1, "it depends on how the sound was cut into pieces"
    assert 0.5 < min(ends) < len(recording("weather")) / 48000


def test_silence_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    model = get_phoneme_model()
    likelihoods = model.likelihoods

    def counted(samples: np.ndarray) -> np.ndarray:
        asked.append(len(samples))
        return likelihoods(samples)

    monkeypatch.setattr(model, "likelihoods", counted)
    recogniser = PhonemeRecogniser(["computer"])
    assert heard(recogniser, np.zeros(96000, np.int16)) == []
    assert not asked
    heard(recogniser, recording("story"))
    assert asked


def test_the_names_that_are_taken_from_the_wheel() -> None:
    """It publishes text alone: a version that moves its likelihoods fails here, not in a call."""
    model = HamaModel()
    assert model.pronounce("computer") == ["k", "ə", "m", "p", "j", "u", "t", "ɝ"]
    likelihoods = model.likelihoods(np.zeros(16000, np.float32))
    assert likelihoods.shape == (51, len(model.phonemes))  # one for each 20 ms, from 0 on
    assert np.exp(likelihoods).sum(axis=1) == pytest.approx(1, abs=0.01)


def test_a_stricter_search_is_a_recognition() -> None:
    strict = partial(PhonemeRecogniser, cost=0.0)(["computer"])
    assert heard(strict, recording("computer")) == []
