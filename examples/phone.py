"""An answering machine for the telephone: `rayrtc dev examples.phone:stream` (docs/telephone.md).

It plays your message back, and hangs up when you are content. Speak again to replace the message.
It talks with espeak-ng where that is installed, else with tones.
"""

import io
import shutil
import subprocess
import wave
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rayrtc import AdditionalOutputs, AudioEmitType, CloseStream, ReplyOnPause, Stream

TIME_TO_OBJECT = 2.0
"""Seconds in which the caller may speak again before the machine hangs up."""


def say(text: str) -> tuple[int, NDArray[np.int16]]:
    """`text` as speech, or a note for each of its words."""
    if not shutil.which("espeak-ng"):
        at = np.arange(8000 // 8) / 8000
        note = np.sin(2 * np.pi * 500 * at) * np.sin(np.pi * at / at[-1])
        return 8000, (np.tile(note, len(text.split())) * 9000).astype(np.int16)
    command = ["espeak-ng", "--stdin", "--stdout"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=5)
    with wave.open(io.BytesIO(done.stdout)) as file:
        # the header of a pipe does not know the length
        return file.getframerate(), np.frombuffer(file.readframes(len(done.stdout) // 2), np.int16)


def greet() -> Iterator[AudioEmitType]:
    yield say("Hello. Please say your message.")


def confirm(message: tuple[int, NDArray[np.int16]]) -> Iterator[AudioEmitType]:
    """Report a message and play it back; ended where it stands when the caller goes on."""
    rate, samples = message
    yield AdditionalOutputs({"seconds": round(samples.size / rate, 1)})
    yield say("I have this.")
    yield rate, samples
    yield say("Thank you.")
    yield 8000, np.zeros(round(8000 * TIME_TO_OBJECT), np.int16)
    yield say("Goodbye."), CloseStream("the message is taken")


stream = Stream(
    ReplyOnPause(confirm, startup_fn=greet),
    modality="audio",
    mode="send-receive",
    concurrency_limit=20,
    time_limit=300,
    ui_args={"title": "Answering machine", "subtitle": "Say something, and hear it again."},
)
