"""What a client of the suite saw of one call; all clients have the same function.

    async def call(base: str, modality: str, mode: str, transport: str = "webrtc") -> Observed

It calls the stream `{base}/{modality}-{mode}`: connects, opens one data channel, sends sound or
pictures if the mode is not "receive", and reads `GET /outputs?webrtc_id=`. Once connected, and
again whenever it is told `send_input`, it posts `{"webrtc_id": ID, "inputs": effects.INPUTS}` to
`/input_hook`. `SECONDS` after the first post it hangs up. It raises nothing for what the system
does wrong: that goes into `errors`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

RATE = 48000
"""Hz of `Observed.audio`."""
SECONDS = 4.0
"""How long a call lasts from its first inputs."""
PICTURES = 10
"""The most pictures that are kept: the newest."""


@dataclass
class Observed:
    """What arrived at the client.

    Attributes:
        connected: whether the connection was ever up.
        audio: float32 samples (1, full scale) at `RATE`, of one channel; None when no track came.
        pictures: the newest decoded pictures in their order, blue, green, red, of shape (height,
            width, 3); None when no track came.
        outputs: lists of arguments of each output, in their order.
        messages: control messages, parsed.
        errors: what went wrong, as texts; an unexpected end or refusal among them.
        sent_frequency: Hz of the tone that the client sent, where it is one.
        sent_left, sent_right: mean brightness of the halves of the pictures that the client sent,
            where they stay the same.
    """

    connected: bool = False
    audio: np.ndarray | None = None
    pictures: list[np.ndarray] | None = None
    outputs: list[list[Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sent_frequency: float | None = None
    sent_left: float | None = None
    sent_right: float | None = None
