"""An echo that tells how much it has heard, in the words of a package that the product has not."""

import asyncio

import humanize

from rayrtc import AdditionalOutputs, AsyncStreamHandler, AudioEmitType, AudioFrame, Stream


class Echo(AsyncStreamHandler):
    def __init__(self) -> None:
        super().__init__()
        self.audio: asyncio.Queue[AudioFrame] = asyncio.Queue(100)
        self.heard = 0

    def copy(self) -> "Echo":
        return Echo()

    async def receive(self, frame: AudioFrame) -> None:
        self.heard += frame[1].shape[-1]
        if not self.audio.full():
            self.audio.put_nowait(frame)

    async def emit(self) -> AudioEmitType:
        frame = await self.audio.get()
        return frame, AdditionalOutputs(humanize.intcomma(self.heard))


stream = Stream(Echo(), modality="audio", name="mycalls")
