"""A client on libwebrtc, the engine of Chromium, without a browser."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import av
import numpy as np
import webrtc

RATE = 48000
FPS = 15


class LibwebrtcClient:
    """Calls a stream, plays a tone and keeps the samples, pictures and messages that come back.

    `kinds` are the media offered, `direction` is that of the offer. The pictures sent are white in
    their left half and `SHADE` in the other; those that come are arrays of blue, green, red. With
    `trickle`, the offer goes before its candidates, as a page sends it.
    """

    SHADE = 60

    def __init__(
        self,
        url: str,
        frequency: float = 440.0,
        kinds: Sequence[str] = ("audio",),
        direction: str = "sendrecv",
        trickle: bool = False,
    ) -> None:
        self.url = url
        self.frequency = frequency
        self.kinds = kinds
        self.direction = direction
        self.trickle = trickle
        self.webrtc_id = uuid.uuid4().hex
        self.messages: list[dict[str, Any]] = []
        self.samples: list[np.ndarray] = []
        self.arrivals: list[float] = []
        self.pictures: list[np.ndarray] = []
        self.rate = RATE
        self.pc = webrtc.RTCPeerConnection()
        self.tasks: list[asyncio.Task[None]] = []

    async def connect(self, timeout: float = 15) -> None:
        """Offer, answer and media; AssertionError with the answer's body when it is refused."""
        channel = self.pc.create_data_channel("text")
        channel.on("message", lambda event: self.messages.append(json.loads(event.data)))
        sending = [self._add(kind) for kind in self.kinds]
        self.pc.on("track", lambda event: self._listen(event.track))
        gathered = asyncio.Event()
        candidates: list[dict[str, Any]] = []
        self.pc.on(
            "icecandidate", lambda e: candidates.append(e.candidate and e.candidate.to_json())
        )
        self.pc.on(
            "icegatheringstatechange",
            lambda _: gathered.set() if self.pc.ice_gathering_state == "complete" else None,
        )
        await self.pc.set_local_description(await self.pc.create_offer())
        offered = self.pc.local_description.sdp
        async with asyncio.timeout(timeout), aiohttp.ClientSession() as session:
            if not self.trickle:
                await gathered.wait()
                offered = self.pc.local_description.sdp
            answer = await self._post(session, {"sdp": offered, "type": "offer"})
            await self.pc.set_remote_description(webrtc.RTCSessionDescriptionInit(**answer))
            if self.trickle:
                await gathered.wait()
                for candidate in candidates:
                    await self._post(session, {"candidate": candidate, "type": "ice-candidate"})
            self.tasks += [asyncio.create_task(play) for play in sending if play is not None]
            while self.pc.connection_state != "connected":
                await asyncio.sleep(0.02)

    async def _post(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
        body["webrtc_id"] = self.webrtc_id
        async with session.post(self.url + "/webrtc/offer", json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            return answer

    def _add(self, kind: str) -> Any:
        """Offer one medium; the coroutine that sends it, if any is sent."""
        init = webrtc.RTCRtpTransceiverInit(direction=self.direction)
        if self.direction == "recvonly":
            self.pc.add_transceiver(kind, init)
            return None
        generator = webrtc.MediaStreamTrackGenerator(kind)
        self.pc.add_transceiver(generator, init)
        return self._play(generator) if kind == "audio" else self._show(generator)

    def _listen(self, track: Any) -> None:
        keep = self._keep if track.kind == "audio" else self._keep_pictures
        self.tasks.append(asyncio.create_task(keep(track)))

    async def _keep(self, track: Any) -> None:
        init = webrtc.MediaStreamTrackProcessorInit(track, max_buffer_size=100)
        async for audio in webrtc.MediaStreamTrackProcessor(init).readable:
            with audio:
                options = webrtc.AudioDataCopyToOptions(plane_index=0, format="s16")
                buffer = bytearray(audio.allocation_size(options))
                audio.copy_to(buffer, options)
                self.rate = int(audio.sample_rate)
                self.samples.append(
                    np.frombuffer(bytes(buffer), np.int16)[:: audio.number_of_channels]
                )
                self.arrivals.append(time.monotonic())

    async def _keep_pictures(self, track: Any) -> None:
        init = webrtc.MediaStreamTrackProcessorInit(track, max_buffer_size=10)
        async for frame in webrtc.MediaStreamTrackProcessor(init).readable:
            with frame:
                assert frame.format == "I420", frame.format
                buffer = bytearray(frame.allocation_size())
                await frame.copy_to(buffer)
                shape = (frame.coded_height * 3 // 2, frame.coded_width)
                pixels = np.frombuffer(bytes(buffer), np.uint8).reshape(shape)
            picture = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            self.pictures.append(picture.to_ndarray(format="bgr24"))

    async def _play(self, generator: Any) -> None:
        writer = generator.writable.get_writer()
        size = RATE // 100
        async for count in paced(100):
            phase = np.arange(count * size, (count + 1) * size) * 2 * np.pi * self.frequency / RATE
            init = webrtc.AudioDataInit(
                format="s16",
                sample_rate=RATE,
                number_of_frames=size,
                number_of_channels=1,
                timestamp=count * 10_000,
                data=(np.sin(phase) * 12000).astype(np.int16).tobytes(),
            )
            await writer.write(webrtc.AudioData(init))

    async def _show(self, generator: Any) -> None:
        writer = generator.writable.get_writer()
        picture = np.full((240, 320, 3), self.SHADE, np.uint8)
        picture[:, :160] = 255
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        pixels = frame.to_ndarray(format="yuv420p").tobytes()
        async for count in paced(FPS):
            init = webrtc.VideoFrameBufferInit("I420", 320, 240, count * 1_000_000 // FPS)
            await writer.write(webrtc.VideoFrame(pixels, init))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.pc.close()


async def paced(rate: float) -> AsyncIterator[int]:
    """Count from 0, `rate` numbers a second."""
    loop, count = asyncio.get_running_loop(), 0
    begin = loop.time()
    while True:
        yield count
        count += 1
        await asyncio.sleep(max(0.0, begin + count / rate - loop.time()))
