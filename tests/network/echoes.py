"""The application of the tests across hosts: an echo, and one that is reached by TURN alone."""

from fastapi import FastAPI

from examples.echo import EchoHandler, EchoInputs
from rayrtc import Stream

app = FastAPI()
echo = Stream(EchoHandler(), modality="audio", concurrency_limit=100, inputs=EchoInputs)
echo.mount(app)
Stream(
    EchoHandler(),
    modality="audio",
    concurrency_limit=100,
    server_rtc_configuration={"iceTransportPolicy": "relay"},
).mount(app, "/relayed")
