"""The application that FastRTC and rayrtc serve: each workload under a path of its own."""

import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

if os.environ["BENCH_SYSTEM"] == "fastrtc":
    import benchmarks.servers.loopback  # noqa: F401
from benchmarks.servers.handlers import streams

app = FastAPI()
mounted = streams()
for path, stream in mounted.items():
    stream.mount(app, path)

if os.environ["BENCH_SYSTEM"] == "fastrtc":
    # routes that FastRTC leaves to the application, as its documentation writes them

    @app.get("/readyz")
    def readyz() -> None:
        """Answers when the application is loaded."""

    @app.post("/inputs/input_hook")
    async def input_hook(request: Request) -> dict[str, str]:
        body: dict[str, Any] = await request.json()
        mounted["/inputs"].set_input(body["webrtc_id"], *body["inputs"])
        return {"status": "success"}

    @app.get("/outputs/updates")
    async def updates(webrtc_id: str) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async for output in mounted["/outputs"].output_stream(webrtc_id):
                yield f"data: {output.args[0]}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")
