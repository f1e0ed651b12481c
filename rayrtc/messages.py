"""The control messages a client gets over its data channel or WebSocket, and their way there."""

import json
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

MessageType = Literal[
    "send_input",
    "fetch_output",
    "stopword",
    "error",
    "warning",
    "log",
    "end_stream",
    "update_connection",
]


class Channel(Protocol):
    """Where messages to the client go. May be called from any thread."""

    def send(self, message: str) -> None:
        """Queue one message; the oldest is dropped when the client takes none."""


@dataclass(frozen=True)
class Context:
    """The connection on whose behalf a handler runs.

    `webrtc_id` is the id that the client chose; `websocket` is the transport's name of a WebSocket
    or telephone connection, else None.
    """

    webrtc_id: str
    websocket: str | None = None


current_channel: ContextVar[Channel | None] = ContextVar("current_channel", default=None)
current_context: ContextVar[Context | None] = ContextVar("current_context", default=None)


def create_message(type: MessageType, data: list[Any] | str) -> str:
    """One control message as JSON text.

    `error` and `warning` carry their text under `message` too, where deployed FastRTC pages look.
    """
    message: dict[str, Any] = {"type": type, "data": data}
    if type in ("error", "warning"):
        message["message"] = data
    return json.dumps(message)


def get_current_context() -> Context:
    """The connection that the calling handler serves.

    Raises:
        RuntimeError: called outside of a handler.
    """
    context = current_context.get()
    if context is None:
        raise RuntimeError("No context found: get_current_context() works inside handlers only")
    return context


def Warning(message: str = "Warning issued.") -> None:
    """Show `message` to the client as a warning. Does nothing outside of a handler."""
    channel = current_channel.get()
    if channel is not None:
        channel.send(create_message("warning", message))


class WebRTCError(Exception):
    """An error whose text the client may see. Raise it in a handler."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.sent = False
        """Whether the client was told already."""
        channel = current_channel.get()
        if channel is not None:
            channel.send(create_message("error", message))
            self.sent = True


class AdditionalOutputs:
    """Values for the client's pages: they leave through `output_stream`, not as media.

    Each argument is JSON data, bytes, a NumPy array or a pydantic model; all together at most
    `RAYRTC_PAYLOAD_MAX` bytes encoded.
    """

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __repr__(self) -> str:
        return f"AdditionalOutputs{self.args!r}"


class CloseStream:
    """Ask for the end of the connection: `msg` is sent, playback drains, the connection closes."""

    def __init__(self, msg: str = "Stream closed") -> None:
        self.msg = msg


class WebRTCData(BaseModel):
    """An input that stands for the caller's turn: text typed beside the call, and the audio.

    As the first input of a `ReplyOnPause` it is what the reply function gets in place of the audio,
    with the audio in it.
    """

    webrtc_id: str
    textbox: str = ""
    audio: Any | None = None
