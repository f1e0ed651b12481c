"""Plain aiortc behind aiohttp, as aiortc's own server example: the least a Python server does."""

import argparse
import asyncio

import numpy as np
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from av import VideoFrame

import benchmarks.servers.loopback  # noqa: F401

connections: set[RTCPeerConnection] = set()


class Flipped(MediaStreamTrack):
    """A video track upside down."""

    kind = "video"

    def __init__(self, source: MediaStreamTrack) -> None:
        super().__init__()
        self.source = source

    async def recv(self) -> VideoFrame:
        frame = await self.source.recv()
        pixels = np.flip(frame.to_ndarray(format="bgr24"), axis=0)
        flipped = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        flipped.pts = frame.pts
        flipped.time_base = frame.time_base
        return flipped


async def offer(request: web.Request) -> web.Response:
    body = await request.json()
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connections.add(peer)

    @peer.on("connectionstatechange")
    async def changed() -> None:
        if peer.connectionState in ("failed", "closed"):
            connections.discard(peer)
            await peer.close()

    @peer.on("track")
    def track(received: MediaStreamTrack) -> None:
        peer.addTrack(received if received.kind == "audio" else Flipped(received))

    await peer.setRemoteDescription(RTCSessionDescription(sdp=body["sdp"], type=body["type"]))
    await peer.setLocalDescription(await peer.createAnswer())
    answer = peer.localDescription
    return web.json_response({"sdp": answer.sdp, "type": answer.type})


async def readyz(request: web.Request) -> web.Response:
    return web.Response()


async def close_all(app: web.Application) -> None:
    await asyncio.gather(*(peer.close() for peer in connections))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = web.Application()
    app.router.add_get("/readyz", readyz)
    for path in ("/echo-async", "/flip"):
        app.router.add_post(path + "/webrtc/offer", offer)
    app.on_shutdown.append(close_all)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
