"""A telephone call as the transport of a connection: Twilio Media Streams over a WebSocket.

Twilio buffers what it is sent, so this side asks it to forget (`clear`) and to report (`mark`).
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

import asyncio
import json
from typing import Any

from rayrtc.handlers import StreamHandlerBase
from workers.frame_socket import FrameSocket
from workers.playback import Chunk
from workers.transport import Events, Log
from workers.websocket import WebSocket

RATE = 8000
"""Hz, both ways."""
PAUSE = 0.1
"""Seconds without audio after which a mark is put behind what was sent."""
MARK_TIMEOUT = 0.8
"""Seconds beyond the audio sent ahead that Twilio may take to report a mark."""


class Telephone(WebSocket):
    """A caller.

    Args:
        stream_sid: Twilio's name of the media stream.
    """

    websocket = "telephone"

    def __init__(self, stream_sid: str, socket: FrameSocket, events: Events, log: Log) -> None:
        super().__init__(socket, events, log)
        self._stream_sid = stream_sid
        head = self._message("media", media={"payload": ""})
        self._media_head = head.removesuffix('"}}').encode()
        self._played = 0.0
        """Loop time of the last audio sent."""
        self._marking: asyncio.TimerHandle | None = None
        self._marks = 0
        self._heard = 0
        """The last mark that Twilio has reported."""
        self._marked = 0.0
        """Loop time of the last mark."""
        self._holds = False
        """Whether Twilio was sent audio since it was told to forget all of it."""
        self._reported = asyncio.Event()

    def prepare(self, handler: StreamHandlerBase) -> None:
        handler.phone_mode = True
        self._make_media(handler, RATE, RATE)

    @property
    def playing(self) -> bool:
        unreported = self._heard < self._marks
        return super().playing or (unreported and self._loop.time() < self._marked + MARK_TIMEOUT)

    def clear(self) -> None:
        forget = self._holds and self.playing
        super().clear()
        if forget:
            self._holds = False
            self.channel.send(self._message("clear"))

    async def played(self) -> None:
        await super().played()
        self.channel.send(self._mark())
        try:
            async with asyncio.timeout(MARK_TIMEOUT):
                while self._heard < self._marks:
                    self._reported.clear()
                    await self._reported.wait()
        except TimeoutError:
            self._log.info("the last mark was not reported")

    def _take(self, event: Any, message: dict[str, Any]) -> bool:
        if event == "mark":
            return self._take_mark(message.get("mark"))
        if event in ("connected", "start"):
            return True
        if event == "dtmf":
            self._log.info("a key was pressed")  # which one may be a secret of the caller
            return True
        return super()._take(event, message)

    def _take_mark(self, mark: Any) -> bool:
        name = mark.get("name") if isinstance(mark, dict) else None
        if not isinstance(name, str) or not name.isdecimal() or len(name) > 9:
            return False
        self._heard = max(self._heard, int(name))
        self._reported.set()
        return True

    def _send_audio(self, chunk: Chunk) -> None:
        super()._send_audio(chunk)
        self._holds = True
        self._played = self._loop.time()
        if self._marking is None:
            self._marking = self._loop.call_later(PAUSE, self._mark_pause)

    def _mark_pause(self) -> None:
        """Put a mark behind what was sent, if that was a while ago."""
        since = self._loop.time() - self._played
        if since < PAUSE:
            self._marking = self._loop.call_later(PAUSE - since, self._mark_pause)
        else:
            self._marking = None
            self._send(self._mark().encode())

    async def close(self) -> None:
        if self._marking is not None:
            self._marking.cancel()
        await super().close()

    def _mark(self) -> str:
        self._marks += 1
        self._marked = self._loop.time()
        return self._message("mark", mark={"name": str(self._marks)})

    def _message(self, event: str, **members: Any) -> str:
        return json.dumps({"event": event, "streamSid": self._stream_sid, **members})
