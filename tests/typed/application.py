"""An application with streams and routes of its own: read by type checkers, like `handlers.py`."""

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from rayrtc import AdditionalOutputs, Stream
from tests.typed.handlers import Echo, detect

app = FastAPI()
echo = Stream(Echo(), modality="audio", concurrency_limit=5)
detector = Stream(detect, modality="video", mode="send-receive")
echo.mount(app, path="/echo", tags=["echo"])
detector.mount(app)


class InputData(BaseModel):
    webrtc_id: str
    threshold: float = Field(ge=0, le=1)


@app.post("/threshold")
def threshold(data: InputData) -> None:
    detector.set_input(data.webrtc_id, data.threshold)


@app.post("/volume")
async def volume(data: InputData) -> dict[str, str]:
    await echo.set_input(data.webrtc_id, data.threshold)
    return {"status": "success"}


@app.get("/events")
async def events(webrtc_id: str) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for output in detector.output_stream(webrtc_id):
            yield f"data: {json.dumps(output.args[0])}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/last")
async def last(webrtc_id: str) -> list[object]:
    output: AdditionalOutputs = await detector.fetch_latest_output(webrtc_id)
    return list(output.args)


@app.post("/hang-up")
async def hang_up(webrtc_id: str) -> None:
    await echo.update_connection(webrtc_id, "closed")


@app.post("/call")
async def call(request: Request) -> Response:
    return await echo.handle_incoming_call(request)


@app.websocket("/talk")
async def talk(websocket: WebSocket) -> None:
    await echo.websocket_offer(websocket)
