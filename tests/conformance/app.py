"""The application that the conformance suite calls: `rayrtc dev tests.conformance.app:app`.

An implementation that is to be tested has to serve these streams under these prefixes. The cells of
the suite's table are `/{modality}-{mode}`; `strength` is their only input, 1 until it is set (0 to
1), and they take any number of connections at once. `tests/conformance/effects.py` has the numbers.

| prefix | what it does |
|---|---|
| `/audio-send-receive` | plays back what it hears, times `strength`. Asks for inputs (`send_input`). Four times a second an output `{kind: "audio", frequency, level, strength}` of what arrived: Hz of the strongest component, root mean square (1 is full scale). Rates of WebSocket: 48000 Hz in, 24000 Hz out |
| `/audio-send` | the same outputs, no sound |
| `/audio-receive` | a generator with one parameter: asks for inputs, begins with the first ones. A tone of 660 Hz, times `strength`; an output `{kind: "tone", strength}` four times a second |
| `/video-send-receive` | each picture mirrored, its left quarter painted blue (0, 0, 255 x `strength`); with each an output `{kind: "picture", brightness, left, right, strength}`: means of the picture that arrived and of its halves |
| `/video-send` | the same outputs, no picture |
| `/video-receive` | as `/audio-receive`: a grey picture with the blue quarter and a white square that walks to the right; an output `{kind: "picture", strength}` with every fourth |
| `/audio-video-...` | both together. Pictures are measured four times a second |
| `/at-once` | `/audio-receive` by a generator without parameters: begins by itself, asks for nothing |
| `/obedient` | audio send-receive at 8000 Hz. Its first output is `[webrtc_id, whether it is a phone call]`. Then it does what inputs `[command, value]` say, each time they change: `message` sends the text; `ask` asks for inputs; `warn`: `Warning(value)`; `fail`: raises `WebRTCError(value)` in `receive`; `raise`: a `ValueError(value)`; `count`: outputs 0 to `value - 1`; `types`: one output of `value`, an int16 array [[1, 2]], bytes, a pydantic model, None and a dict; `large`: an output of so many characters; `play`: an output, then so many seconds of the tone; `close`: `CloseStream(value)` |
| `/limited` | `/obedient` with `concurrency_limit=2` |
| `/single` | `/obedient` with the default limit, 1 |
| `/timed` | `/obedient` with `time_limit=2` |
| `/extra-tracks` | `/audio-send-receive` with `allow_extra_tracks=True` |
| `/model` | `/obedient` whose inputs are a model: `command` (up to 8 characters) and `value` (0 to 100), both needed |
| `/reply` | `ReplyOnPause`: after each utterance an output `[input, seconds of the utterance]`, then as many seconds of the tone as the input says, 1 without. Asks for it in each turn, but not a phone, of which the outputs are the next inputs |
| `/reply-uninterrupted` | the same with `can_interrupt=False` |
| `/stop-words` | the same after the word "computer" |
| `/rtc-dict`, `/rtc-function`, `/rtc-async`, `/rtc-partial`, `/rtc-method` | `/obedient` whose `rtc_configuration` is a dict, or such a callable: one ICE server, `stun:KIND.example:3478` |

Routes of the application itself, as the specification's examples have them, for `/obedient`:
`POST /own/input_hook` and `POST /own/input_hook_sync` `{webrtc_id, command, value}`,
`GET /own/updates?webrtc_id=`, `GET /own/latest?webrtc_id=`, `POST /own/close?webrtc_id=`.
"""  # noqa: E501

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from rayrtc import (
    AdditionalOutputs,
    AudioEmitType,
    ReplyOnPause,
    ReplyOnStopWords,
    Stream,
    VideoStreamHandler,
)
from tests.conformance import effects
from tests.conformance.handlers import (
    FPS,
    RATE,
    Listening,
    Obedient,
    Showing,
    Watching,
    mirror,
    play,
    play_at_once,
    show,
    watch,
)

MANY = 1000

app = FastAPI()

for mode, audio, video, audio_video in (
    ("send-receive", Listening(), VideoStreamHandler(mirror, skip_frames=True), Watching()),
    ("send", Listening(echo=False), VideoStreamHandler(watch, skip_frames=True), Watching(False)),
    ("receive", play, VideoStreamHandler(show, fps=FPS), Showing()),
):
    for modality, handler in (("audio", audio), ("video", video), ("audio-video", audio_video)):
        cell: Any = {"modality": modality, "mode": mode, "concurrency_limit": MANY}
        Stream(handler, **cell).mount(app, f"/{modality}-{mode}")

Stream(play_at_once, modality="audio", mode="receive", concurrency_limit=MANY).mount(
    app, "/at-once"
)

obedient = Stream(Obedient(), modality="audio", concurrency_limit=MANY)
obedient.mount(app, "/obedient")
Stream(Obedient(), modality="audio", concurrency_limit=2).mount(app, "/limited")
Stream(Obedient(), modality="audio").mount(app, "/single")
Stream(Obedient(), modality="audio", concurrency_limit=MANY, time_limit=2).mount(app, "/timed")


Stream(Listening(), modality="audio", concurrency_limit=MANY, allow_extra_tracks=True).mount(
    app, "/extra-tracks"
)


class Command(BaseModel):
    command: str = Field(max_length=8)
    value: int = Field(ge=0, le=100)


Stream(Obedient(), modality="audio", concurrency_limit=MANY, inputs=Command).mount(app, "/model")


def reply(
    audio: tuple[int, NDArray[np.int16]], seconds: float = 1.0, heard: float | None = None
) -> Iterator[AudioEmitType]:
    rate, samples = audio
    yield AdditionalOutputs(seconds, samples.size / rate)
    for count in range(round(seconds * 10)):
        yield RATE, effects.tone(count, RATE, RATE // 10, 1)


for prefix, replying in (
    ("/reply", ReplyOnPause(reply)),
    ("/reply-uninterrupted", ReplyOnPause(reply, can_interrupt=False)),
    ("/stop-words", ReplyOnStopWords(reply, ["computer"])),
):
    Stream(replying, modality="audio", concurrency_limit=MANY).mount(app, prefix)


def ice_servers(kind: str) -> dict[str, Any]:
    return {"iceServers": [{"urls": f"stun:{kind}.example:3478"}]}


async def ice_servers_async() -> dict[str, Any]:
    return ice_servers("async")


class Credentials:
    def fetch(self) -> dict[str, Any]:
        return ice_servers("method")


configurations: dict[str, Any] = {
    "dict": ice_servers("dict"),
    "function": lambda: ice_servers("function"),
    "async": ice_servers_async,
    "partial": partial(ice_servers, "partial"),
    "method": Credentials().fetch,
}
for kind, configuration in configurations.items():
    Stream(Obedient(), modality="audio", rtc_configuration=configuration).mount(app, f"/rtc-{kind}")


class InputData(BaseModel):
    webrtc_id: str
    command: str
    value: Any


@app.post("/own/input_hook")
async def input_hook(data: InputData) -> None:
    obedient.set_input(data.webrtc_id, data.command, data.value)


@app.post("/own/input_hook_sync")
def input_hook_sync(data: InputData) -> None:
    obedient.set_input(data.webrtc_id, data.command, data.value)


@app.get("/own/updates")
async def stream_updates(webrtc_id: str) -> StreamingResponse:
    async def output_stream() -> AsyncIterator[str]:
        async for output in obedient.output_stream(webrtc_id):
            yield f"data: {output.args[0]}\n\n"

    return StreamingResponse(output_stream(), media_type="text/event-stream")


@app.get("/own/latest")
async def latest(webrtc_id: str) -> Any:
    output = await obedient.fetch_latest_output(webrtc_id)
    return output.args[0]


@app.post("/own/close")
async def close(webrtc_id: str) -> None:
    await obedient.update_connection(webrtc_id, "closed")
