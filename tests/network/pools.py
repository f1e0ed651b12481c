"""Two streams, one of which needs what only some nodes have: `desk`, a resource of this test."""

from fastapi import FastAPI

from rayrtc import Stream
from tests.network.app import tone

app = FastAPI()
Stream(tone, modality="audio", mode="receive", concurrency_limit=100).mount(app)
Stream(
    tone, modality="audio", mode="receive", concurrency_limit=100, resources={"desk": 0.5}
).mount(app, "/desk")
