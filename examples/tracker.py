"""Hold up something red; it is boxed, and its place told: `rayrtc dev examples.tracker:stream`."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from rayrtc import AdditionalOutputs, Stream, VideoStreamHandler

CHANNELS = ("blue", "green", "red")
SMALLEST = 0.002
"""Share of the picture below which nothing was found."""


class TrackerInputs(BaseModel):
    """What the page's form and `POST /input_hook` set."""

    colour: Literal["blue", "green", "red"] = "red"
    threshold: float = Field(0.25, gt=0, le=1, description="How much purer than grey it has to be.")


def track(
    frame: NDArray[np.uint8], colour: str = "red", threshold: float = 0.25
) -> tuple[NDArray[np.uint8], AdditionalOutputs]:
    """The frame with a box round what has the colour, and where that is: 0 to 1 from top left."""
    channel = CHANNELS.index(colour)
    others = np.delete(frame, channel, axis=2).max(axis=2).astype(np.int16)
    found = frame[:, :, channel] - others > 255 * threshold
    if found.mean() < SMALLEST:
        return frame, AdditionalOutputs({"found": False})
    # where the colour begins and ends, leaving out a few stray points
    top, bottom = np.quantile(np.nonzero(found)[0], [0.02, 0.98]).astype(int)
    left, right = np.quantile(np.nonzero(found)[1], [0.02, 0.98]).astype(int)
    boxed = frame.copy()
    boxed[top : bottom + 1, [left, right]] = 255
    boxed[[top, bottom], left : right + 1] = 255
    height, width = found.shape
    place = {
        "found": True,
        "x": round((left + right) / 2 / width, 2),
        "y": round((top + bottom) / 2 / height, 2),
        "share": round(float(found.mean()), 3),
    }
    return boxed, AdditionalOutputs(place)


stream = Stream(
    VideoStreamHandler(track, fps=10, skip_frames=True),
    modality="video",
    mode="send-receive",
    concurrency_limit=20,
    inputs=TrackerInputs,
    track_constraints={"width": {"ideal": 640}, "frameRate": {"ideal": 10}},
    ui_args={"title": "Tracker", "subtitle": "Hold up something red."},
)
