"""The application of the tests across hosts: an echo, and one that is reached by TURN alone.

The second one's handler is synchronous: what it emits on its thread is relayed by the loop.
"""

from fastapi import FastAPI

from examples.echo import EchoHandler, EchoInputs
from rayrtc import Stream
from tests.workers.host import Echo

app = FastAPI()
echo = Stream(EchoHandler(), modality="audio", concurrency_limit=100, inputs=EchoInputs)
echo.mount(app)
Stream(
    Echo(),
    modality="audio",
    concurrency_limit=100,
    server_rtc_configuration={"iceTransportPolicy": "relay"},
).mount(app, "/relayed")
