"""Whether what a client saw of a call is what the application does; the same for all clients."""

from typing import Any

import numpy as np

from tests.conformance import effects
from tests.conformance.observed import RATE, Observed

HZ = 6.0
"""How far two frequencies may be apart, the bins of both measurements included."""
RATIO = 0.25
"""How far two levels may be apart, as a part of them."""
SHADES = 20.0
"""How far a mean of decoded pixels may be from that of the pixels encoded."""
OUTPUTS = 5
"""At least so many of a kind arrive in a call."""


def problems(observed: Observed, modality: str, mode: str) -> list[str]:
    """What is wrong with a call of the stream `/{modality}-{mode}`; nothing, if nothing is."""
    found = list(observed.errors)
    if not observed.connected:
        return [*found, "not connected"]
    kinds = modality.split("-")
    if "audio" in kinds:
        found += _audio(observed, mode)
    if "video" in kinds:
        found += _video(observed, mode)
    if mode == "send" or "audio" not in kinds:
        found += _unless(observed.audio is None, "sound came that nobody sent")
    if mode == "send" or "video" not in kinds:
        found += _unless(not observed.pictures, "pictures came that nobody sent")
    types = {message["type"] for message in observed.messages}
    expected = {"fetch_output", "send_input"}
    if modality == "video" and mode != "receive":  # a function of frames asks for nothing
        expected.discard("send_input")
    return found + _unless(types == expected, f"messages of the types {types}")


def _audio(observed: Observed, mode: str) -> list[str]:
    outputs = _outputs(observed, "tone" if mode == "receive" else "audio")
    found = _measured(outputs, "audio")
    if mode != "send" and (observed.audio is None or observed.audio.size < 2 * RATE):
        return [*found, "less than 2 s of sound came"]
    if mode == "receive":
        return found + _tone(observed.audio, effects.FREQUENCY, effects.INPUTS[0] * effects.LEVEL)
    if not outputs:
        return found
    frequency = float(np.median([output["frequency"] for output in outputs]))
    level = float(np.median([output["level"] for output in outputs]))
    if observed.sent_frequency is not None:
        found += _near("tone that arrived", frequency, observed.sent_frequency, HZ)
    found += _unless(level > 0.02, f"what arrived has a level of {level}")
    if mode == "send-receive":
        found += _tone(observed.audio, frequency, effects.INPUTS[0] * level)
    return found


def _tone(audio: np.ndarray | None, frequency: float, level: float) -> list[str]:
    """Whether half a second of sound is that tone; packets may be missing elsewhere."""
    assert audio is not None
    parts = [audio[at : at + RATE // 2] for at in range(0, audio.size - RATE // 2, RATE // 8)]
    heard = [(effects.frequency(part, RATE), effects.level(part)) for part in parts]
    return _unless(
        any(
            abs(f - frequency) <= HZ and abs(loudness - level) <= RATIO * level
            for f, loudness in heard
        ),
        f"no {frequency:.0f} Hz of level {level:.3f} came: "
        + ", ".join(f"{f:.0f} Hz {loudness:.3f}" for f, loudness in heard),
    )


def _video(observed: Observed, mode: str) -> list[str]:
    outputs = _outputs(observed, "picture")
    found = _measured(outputs, "video")
    pictures = observed.pictures or []
    if mode != "send":
        if len(pictures) < 5:
            return [*found, f"{len(pictures)} pictures came"]
        expected = (255 * effects.INPUTS[0], 0, 0)
        for name, is_, should in zip(
            ("blue", "green", "red"), effects.stamp(pictures[-1]), expected, strict=True
        ):
            found += _near(f"{name} of the stamp", is_, should, SHADES)
    if mode == "receive":
        beside = [effects.beside_stamp(picture) for picture in pictures]
        found += _near("grey", float(np.median(beside[-1])), effects.GREY, SHADES)
        where = {_brightest_column(picture) for picture in beside}
        return found + _unless(len(where) > 2, f"the square stands still at {where}")
    if not outputs:
        return found
    arrived = outputs[-1]
    if observed.sent_left is not None:
        found += _near("left half that arrived", arrived["left"], observed.sent_left, SHADES)
    if observed.sent_right is not None:
        found += _near("right half that arrived", arrived["right"], observed.sent_right, SHADES)
    found += _unless(
        arrived["left"] > arrived["right"] + SHADES, f"nothing to be mirrored: {arrived}"
    )
    if mode == "send-receive":
        picture = pictures[-1]
        right = float(picture[:, picture.shape[1] // 2 :].mean())
        found += _near("right half that came back", right, arrived["left"], SHADES)
    return found


def _brightest_column(picture: np.ndarray) -> int:
    return int(picture[100 : 100 + effects.SQUARE].mean(axis=(0, 2)).argmax())


def _outputs(observed: Observed, kind: str) -> list[dict[str, Any]]:
    return [args[0] for args in observed.outputs if args[0]["kind"] == kind]


def _measured(outputs: list[dict[str, Any]], name: str) -> list[str]:
    if len(outputs) < OUTPUTS:
        return [f"{len(outputs)} outputs of {name}"]
    return _near("strength in force", outputs[-1]["strength"], effects.INPUTS[0], 0)


def _near(name: str, value: float, expected: float, tolerance: float) -> list[str]:
    return _unless(
        abs(value - expected) <= tolerance,
        f"{name}: {value:.3g}, not {expected:.3g} within {tolerance:.2g}",
    )


def _unless(holds: bool, text: str) -> list[str]:
    return [] if holds else [text]
