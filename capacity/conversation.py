"""Speech of several people, recorded: twenty utterances, each of another text.

They were made with espeak-ng 1.51 and cut so that they begin and end with speech.
`speech/conversation.opus` holds them, five voices, each with half a second of silence before it;
`speech/conversation.json` says what and where they are.
"""

import json
from pathlib import Path

import av
import numpy as np

RATE = 48000
SPEECH = Path(__file__).parent / "speech"


def conversation(rate: int = RATE) -> list[np.ndarray]:
    """The samples of the utterances: mono, int16, at `rate` Hz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    with av.open(str(SPEECH / "conversation.opus")) as file:
        frames = [
            part.to_ndarray().reshape(-1)
            for frame in [*file.decode(audio=0), None]
            for part in resampler.resample(frame)
        ]
    samples = np.concatenate(frames)
    spoken = json.loads((SPEECH / "conversation.json").read_text())
    return [samples[round(one["start"] * rate) : round(one["end"] * rate)] for one in spoken]
