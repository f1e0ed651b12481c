"""Your camera, mirrored, as a drawing of edges: `rayrtc dev examples.video_effect:stream`."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from rayrtc import Stream, VideoStreamHandler


class EffectInputs(BaseModel):
    """What the page's form and `POST /input_hook` set."""

    edges: float = Field(0.5, ge=0, le=1, description="0 is the camera's picture, 1 its edges.")
    mirror: bool = Field(True, description="Swap left and right.")


def effect(frame: NDArray[np.uint8], edges: float = 0.5, mirror: bool = True) -> NDArray[np.uint8]:
    """Runs on a thread of the call, with each frame and the newest inputs."""
    if mirror:
        frame = frame[:, ::-1]
    if edges == 0:
        return frame
    grey = frame.max(axis=2).astype(np.int16)
    steps = np.zeros_like(grey)
    steps[:, 1:] += np.abs(np.diff(grey, axis=1))
    steps[1:] += np.abs(np.diff(grey, axis=0))
    drawing = np.minimum(4 * steps, 255)[:, :, np.newaxis]
    mixed: NDArray[np.uint8] = (frame * (1 - edges) + drawing * edges).astype(np.uint8)
    return mixed


stream = Stream(
    VideoStreamHandler(effect, skip_frames=True),
    modality="video",
    mode="send-receive",
    concurrency_limit=20,
    inputs=EffectInputs,
    track_constraints={"width": {"ideal": 640}, "height": {"ideal": 480}},
    ui_args={"title": "Video effect", "subtitle": "See your edges."},
)
