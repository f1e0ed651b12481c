"""What the recognisers of stop words listen to: synthesised and human speech, with and without.

There are two halves without a word, a sentence or a synthesiser's voice in common: `TUNING`, on
which thresholds are chosen, and `REPORTED`. The human speaker of the prompts is the same in both,
with other prompts. Everything comes from Debian packages and one wheel:

    apt install espeak-ng flite asterisk-core-sounds-en asterisk-core-sounds-en-g722
    pip install --no-deps moonshine-voice

The samples are the same at each run.
"""

import gzip
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
LEVEL = 0.06
"""Root mean square of speech, of full scale."""
ROOM = 0.0006
"""Root mean square of a quiet room."""
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPT_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")

Samples = NDArray[np.int16]
Speech = NDArray[np.float32]
Kind = Literal["synthesised", "human"]


@dataclass(frozen=True)
class Utterance:
    """A piece of speech with silence around it; `word` is the stop word in it."""

    samples: Samples
    word: str | None
    noise: str


@dataclass(frozen=True)
class Session:
    """What one speaker says in one connection, and the stop words that are listened for."""

    kind: Kind
    voice: str
    stop_words: tuple[str, ...]
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Half:
    """The words, sentences and voices of one half of the corpus."""

    words: tuple[str, ...]
    sentences: tuple[str, ...]
    others: tuple[str, ...]
    """Sentences without a stop word, some with one that sounds like it."""
    espeak: tuple[tuple[str, int, int], ...]
    """Voice, words a minute, pitch."""
    flite: tuple[str, ...]
    prompt_words: tuple[str, ...]
    prompts: int
    """With a word; and as many without."""
    readings: tuple[str, ...]
    """Recordings in moonshine-voice; none has a stop word in it."""


TUNING = Half(
    words=("telephone", "elephant", "robot", "hey sunshine", "okay kitchen", "hello captain"),
    sentences=(
        "{}",
        "{}, what time is it?",
        "I told you, {}, to close the door",
    ),
    others=(
        "the television was on all evening",
        "an elegant lady came to the party",
        "they rode about in the rain",
        "the sun will shine again tomorrow",
        "the chicken is in the oven",
        "the cabin was cold and dark",
        "an element of surprise is important",
        "it is okay to kick the ball",
        "hello Catherine, how are you?",
        "seven people were waiting for the bus",
        "the meeting starts at half past nine",
        "give me one more minute, please",
    ),
    espeak=(("en-us", 160, 50), ("en-gb+m3", 145, 60), ("en-us+f2", 175, 45)),
    flite=("awb",),
    prompt_words=("conference", "pound key"),
    prompts=25,
    readings=("beckett.wav",),
)
REPORTED = Half(
    words=("computer", "assistant", "banana", "hey llama", "hello jarvis", "okay window"),
    sentences=(
        "{}",
        "{}, turn on the light",
        "play some music for me, {}",
        "excuse me, {}, how warm is it outside?",
    ),
    others=(
        "the commuter train was late again",
        "they insisted on paying for dinner",
        "she wore a red bandana",
        "hey, look at that old farmer",
        "hello, the harvest was good this year",
        "it is okay to open the winter coats",
        "he competes in every tournament",
        "the existence of the letter was a secret",
        "Savannah is a city in the south",
        "drama is on the second channel",
        "he said hello and served the soup",
        "okay, we will wind up the clock",
        "we had bread and cheese for lunch",
        "the river runs behind the old church",
        "can you hear the birds in the garden",
        "all the shops are closed on Sunday",
        "she has been reading the newspaper",
        "put the book back on the shelf",
        "eleven boats left the harbour today",
        "I would like to go home now",
    ),
    espeak=(
        ("en-gb-scotland", 150, 50),
        ("en-029", 150, 55),
        ("en-us-nyc+f4", 165, 40),
    ),
    flite=("slt", "rms"),
    prompt_words=("extension", "password", "message", "number"),
    prompts=40,
    readings=("two_cities.wav",),
)


def missing() -> list[str]:
    """What has to be installed first."""
    absent = [f"apt install {tool}" for tool in ("espeak-ng", "flite") if not shutil.which(tool)]
    if not PROMPTS.is_dir():
        absent.append("apt install asterisk-core-sounds-en-g722")
    if not PROMPT_TEXTS.is_file():
        absent.append("apt install asterisk-core-sounds-en")
    if importlib.util.find_spec("moonshine_voice") is None:
        absent.append("pip install --no-deps moonshine-voice")
    return absent


def sessions(half: Half) -> Iterator[Session]:
    """Every session of a half: each synthesised voice, then the human ones."""
    for voice, speed, pitch in half.espeak:
        command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w"]
        yield _synthesised(half, voice, command)
    for voice in half.flite:
        yield _synthesised(half, voice, ["flite", "-voice", voice, "-o"])
    yield _prompts(half)
    for reading in half.readings:
        yield _reading(half, reading)


def _synthesised(half: Half, voice: str, command: list[str]) -> Session:
    texts: list[tuple[str | None, str]] = [
        (word, sentence.format(word)) for sentence in half.sentences for word in half.words
    ]
    texts += [(None, text) for text in half.others]
    return _session("synthesised", voice, half.words, [(w, say(command, t)) for w, t in texts])


def _prompts(half: Half) -> Session:
    """Short prompts that have one of the words once, and others."""
    spoken: list[tuple[str | None, Speech]] = []
    others: list[tuple[str | None, Speech]] = []
    words_of_both = TUNING.prompt_words + REPORTED.prompt_words
    for file, text in _prompt_texts():
        words = " ".join(re.findall(r"[a-z']+", text.lower()))
        if not 2 <= len(words.split()) <= 14:
            continue
        found = [word for word in half.prompt_words for _ in re.findall(rf"\b{word}\b", words)]
        if len(found) == 1:
            spoken.append((found[0], _file(file)))
        elif not any(word in words for word in words_of_both) and (file.stem < "h") == (
            half is TUNING
        ):
            others.append((None, _file(file)))  # shared out by the alphabet
    random = np.random.default_rng(0)
    for some in (spoken, others):
        random.shuffle(some)  # type: ignore[arg-type]
    chosen = spoken[: half.prompts] + others[: half.prompts]
    return _session("human", "prompts", half.prompt_words, chosen)


def _prompt_texts() -> list[tuple[Path, str]]:
    with gzip.open(PROMPT_TEXTS, "rt", errors="replace") as lines:
        parts = [line.partition(":") for line in lines if not line.startswith(";")]
    files = [(PROMPTS / f"{name}.g722", text) for name, _, text in parts if "[" not in text]
    return sorted((file, text) for file, text in files if file.is_file())


def _reading(half: Half, name: str) -> Session:
    """A recording without a stop word, in pieces of 5 s."""
    spec = importlib.util.find_spec("moonshine_voice")
    assert spec is not None
    assert spec.origin is not None
    samples = _file(Path(spec.origin).parent / "assets" / name)
    pieces: list[tuple[str | None, Speech]] = [
        (None, samples[at : at + 5 * RATE]) for at in range(0, len(samples), 5 * RATE)
    ]
    return _session("human", name, half.words, pieces)


def _session(
    kind: Kind, voice: str, stop_words: tuple[str, ...], spoken: list[tuple[str | None, Speech]]
) -> Session:
    """Every second utterance gets noise: hiss at 15 dB, or other speech at 10 dB, in turn."""
    random = np.random.default_rng(len(spoken))
    random.shuffle(spoken)  # type: ignore[arg-type]
    clean = [(word, levelled(samples)) for word, samples in spoken]
    babble = np.concatenate([samples for word, samples in clean if word is None])
    utterances = []
    for index, (word, samples) in enumerate(clean):
        padded = np.pad(samples, (RATE * 3 // 10, RATE * 8 // 10))
        padded += random.normal(0, ROOM, len(padded))
        noise = ("none", "hiss", "none", "babble")[index % 4]
        if noise == "hiss":
            padded += random.normal(0, LEVEL * 10 ** (-15 / 20), len(padded))
        elif noise == "babble":
            at = random.integers(len(babble))
            padded += np.roll(babble, at)[: len(padded)] * 10 ** (-10 / 20)
        clipped = np.clip(padded * 32768, -32768, 32767).astype(np.int16)
        utterances.append(Utterance(clipped, word, noise))
    return Session(kind, voice, stop_words, tuple(utterances))


def levelled(samples: Speech) -> Speech:
    """At `LEVEL`, pauses not counted."""
    loud = np.abs(samples) > 0.1 * np.abs(samples).max()
    return samples * np.float32(LEVEL / np.sqrt(np.mean(samples[loud] ** 2)))


def say(command: list[str], text: str) -> Speech:
    """`text` spoken by espeak-ng or flite; `command` ends with the option for the file."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        argument = ["-t", text] if command[0] == "flite" else [text]
        subprocess.run([*command, file.name, *argument], check=True, timeout=30)
        return _file(Path(file.name))


def _file(path: Path) -> Speech:
    """The samples of any audio file, mono, at `RATE`."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        frames = [*container.decode(audio=0), None]  # None asks for what is left
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces)
