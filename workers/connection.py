"""One connection: its states, its deadlines and everything that is released at its end.

It puts together the handler's runtime and the transport, and decides what happens when. Which
transport it is, is not known here.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Protocol

from aiortc import RTCIceCandidate
from prometheus_client import Counter, Gauge, Histogram

from rayrtc import log_fields, tracing
from rayrtc.cluster import codec
from rayrtc.cluster.models import ConnectionRequest, EndReason, InputEntry, LiveConnection
from rayrtc.errors import ConnectionClosed, RayRTCError, UnknownConnection
from rayrtc.messages import Context, create_message
from rayrtc.settings import Settings
from rayrtc.stream import Stream
from workers import calls
from workers.calls import Call
from workers.copies import BoundHandler, copy_handler, create_runtime
from workers.runtime import Runtime
from workers.transport import TransportFactory

logger = logging.getLogger(__name__)

PLAY_OUT_MARGIN = 1.0
"""Seconds beyond the queued audio that the play-out may take."""
FLUSH_TIMEOUT = 0.5
"""Seconds for the last messages to leave, and for the channel to open if it has not yet."""

LABELS = ("stream", "transport")
"""Of all connections' metrics; the transport is `webrtc`, `websocket` or `telephone`."""

connections = Gauge("rayrtc_worker_connections", "Connections by state.", [*LABELS, "state"])
transitions = Counter(
    "rayrtc_worker_connection_transitions_total", "Changes of state.", [*LABELS, "state"]
)
ended = Counter("rayrtc_worker_connections_ended_total", "Ends by reason.", [*LABELS, "reason"])
connect_time = Histogram(
    "rayrtc_worker_connect_seconds", "Time from the offer to connected media.", LABELS
)


class State(StrEnum):
    """Where a connection stands."""

    NEW = "new"
    CONNECTING = "connecting"
    """The offer is answered."""
    CONNECTED = "connected"
    PLAYING_OUT = "playing_out"
    """The handler closed the stream; what it emitted before is played."""
    CLOSED = "closed"


FOLLOWING = {
    State.NEW: {State.CONNECTING, State.CLOSED},
    State.CONNECTING: {State.CONNECTED, State.CLOSED},
    State.CONNECTED: {State.PLAYING_OUT, State.CLOSED},
    State.PLAYING_OUT: {State.CLOSED},
    State.CLOSED: set(),
}
"""The transitions that exist."""

OVERDUE = {
    State.NEW: EndReason.CONNECT_TIMEOUT,
    State.CONNECTING: EndReason.CONNECT_TIMEOUT,
    State.CONNECTED: EndReason.TIME_LIMIT,
    State.PLAYING_OUT: EndReason.HANDLER_CLOSED,
}
"""Why a connection ends whose deadline passes in a state."""

BY_CLIENT = {EndReason.CLIENT_CLOSED, EndReason.ICE_FAILED, EndReason.CONNECT_TIMEOUT}
"""Ends that the client is not told of: it caused them or cannot be reached."""


class Refused(RayRTCError):
    """This worker does not take the offer; another one might."""

    code = "refused"
    status = 409


class Outputs(Protocol):
    """What a connection needs of `rayrtc.cluster.outputs.OutputWriter`."""

    def append(
        self, connection_id: str, session: int, encoded_args: str
    ) -> "asyncio.Future[bool]": ...

    def end(
        self, connection_id: str, session: int, reason: EndReason
    ) -> "asyncio.Future[bool]": ...


class Connection:
    """A client's connection to its own copy of the stream's handler.

    One task owns it: made by `open`, it ends when everything is released.

    Args:
        request: which connection it is.
        stream: what is called.
        transport: makes the way to the client.
        outputs: where outputs and the end are written.
        on_end: called once after the release of a connection that was answered.
    """

    def __init__(
        self,
        request: ConnectionRequest,
        stream: Stream,
        settings: Settings,
        transport: TransportFactory,
        outputs: Outputs,
        on_end: Callable[["Connection", EndReason], Coroutine[Any, Any, None]],
    ) -> None:
        self.id = request.connection_id
        self.session = request.session
        self.state = State.NEW
        self.reason: EndReason | None = None
        """Why it ended; None before."""
        self.end_written: asyncio.Future[bool] | None = None
        """Done when its end can be read; None before, and for a refused one."""
        self._stream = stream
        self._settings = settings
        self._outputs = outputs
        self._on_end = on_end
        self._fields: dict[str, Any] = {
            "connection_id": self.id,
            "session": self.session,
            "stream": stream.name,
        }
        self._log = logging.LoggerAdapter(logger, self._fields)
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._answer: asyncio.Future[str] = self._loop.create_future()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[EndReason] = self._loop.create_future()
        self._deadline = asyncio.timeout(settings.connect_timeout)
        self._children: set[asyncio.Task[None]] = set()
        self._inputs_seq = request.inputs_seq if request.inputs is not None else -1
        self._inputs = request.inputs
        self._handler: BoundHandler | None = None
        self._runtime: Runtime | None = None
        self._transport = transport(self, self._log)
        self._channel = self._transport.channel
        self._labels = stream.name, self._transport.websocket or "webrtc"
        self._connecting = tracing.NOTHING
        """The part of a trace from the answer until media can flow."""
        connections.labels(*self._labels, self.state).inc()
        self.task = self._loop.create_task(self._run(), name=f"connection {self.id}")

    @property
    def live(self) -> LiveConnection:
        """As the worker renews it."""
        return LiveConnection(connection_id=self.id, session=self.session, stream=self._stream.name)

    async def answer(self) -> str:
        """The transport's answer to the client; the same whenever it is asked for.

        Raises:
            RayRTCError: the offer is refused.
        """
        return await asyncio.shield(self._answer)

    async def add_candidate(self, candidate: RTCIceCandidate | None) -> None:
        """Take a trickled candidate; None is the end of them. Waits for the answer.

        Raises:
            ConnectionClosed: the connection has ended.
            UnknownConnection: its offer was refused, or it has no ICE.
            TooLarge: it has its most.
        """
        try:
            await self.answer()
        except RayRTCError:
            raise UnknownConnection from None
        if self.state is State.CLOSED or self._ended.done():
            raise ConnectionClosed
        self._log.debug("candidate taken")
        self._transport.add_candidate(candidate)

    def deliver(self, entry: InputEntry) -> None:
        """Take an entry of the worker's input stream."""
        if entry.session != self.session:
            return
        if entry.kind == "close":
            self._log.info("asked to close")
            self.close(EndReason.SERVER_CLOSED)
        elif entry.seq > self._inputs_seq:
            self._log.debug("inputs taken")
            self._inputs_seq = entry.seq
            self._inputs = entry.args
            self._set_args()

    def close(self, reason: EndReason) -> None:
        """Begin the end; the first reason counts. `task` is done when all is released."""
        if not self._ended.done():
            self._ended.set_result(reason)

    # told by the transport

    def connected(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def failed(self) -> None:
        self.close(EndReason.ICE_FAILED)

    def closed(self) -> None:
        self.close(EndReason.CLIENT_CLOSED)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        child = self._loop.create_task(work)
        self._children.add(child)
        child.add_done_callback(self._child_ended)

    # told by the runtime

    def fail(self) -> None:
        self.close(EndReason.HANDLER_ERROR)

    def play_out(self, message: str) -> None:
        if self.state is not State.CONNECTED or self._ended.done():
            return
        self._move(State.PLAYING_OUT)
        self._channel.send(create_message("end_stream", message))
        latest = self._loop.time() + self._transport.media.buffered + PLAY_OUT_MARGIN
        limit = self._deadline.when()
        self._deadline.reschedule(latest if limit is None else min(latest, limit))
        self.spawn(self._play_out())

    def put_output(self, encoded: str, stored: Callable[[], None]) -> None:
        def written(done: "asyncio.Future[bool]") -> None:
            stored()
            if not done.cancelled() and done.result():
                self._channel.send(create_message("fetch_output", []))

        if self.state is State.CLOSED:
            stored()
        else:
            self._outputs.append(self.id, self.session, encoded).add_done_callback(written)

    # the owner's task and its parts

    async def _run(self) -> None:
        reason = EndReason.REFUSED
        log_fields.add(**self._fields)
        try:
            async with self._deadline:
                await self._set_up()
                reason = await self._live()
        except TimeoutError:
            reason = OVERDUE[self.state]
        except RayRTCError as error:
            self._refuse(error)
        except asyncio.CancelledError:
            reason = EndReason.WORKER_STOPPED
        except Exception:
            self._log.exception("the connection failed")
            reason = EndReason.HANDLER_ERROR
        finally:
            await self._release(reason)

    async def _set_up(self) -> None:
        """Answer the client."""
        self._transport.check()
        handler_name = calls.name_of(self._stream.handler)
        try:
            with calls.entered(Call(self.id, self._stream.name, handler_name, "copy")):
                self._handler = handler = await copy_handler(self._stream)
        except Exception as error:
            self._log.exception("the handler cannot be copied")
            raise Refused("the handler cannot be copied") from error
        self._transport.prepare(handler)
        self._runtime = create_runtime(
            handler,
            stream=self._stream.name,
            handler_name=handler_name,
            context=Context(self.id, self._transport.websocket),
            channel=self._channel,
            media=self._transport.media,
            session=self,
            payload_max=self._settings.payload_max,
            log=self._log,
        )
        handler.bind(
            self._loop,
            self._channel,
            self._transport.clear,
            lambda: self._transport.playing,
        )
        self._set_args()
        try:
            answer = await self._transport.answer()
        except OSError as error:
            self._log.exception("no sockets for the connection")
            raise Refused("the worker has no sockets left") from error
        if self._ended.done():  # given up while it was set up
            raise Refused("the connection was closed")
        self._move(State.CONNECTING)
        self._answer.set_result(answer)

    async def _live(self) -> EndReason:
        """Everything between the answer and the end; why it ended."""
        assert self._runtime is not None
        self._connecting = tracing.begin("connect", transport=self._labels[1], **self._fields)
        try:
            self._transport.start()
            await asyncio.wait((self._connected, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                self._move(State.CONNECTED)
                limit = self._stream.time_limit
                self._deadline.reschedule(None if limit is None else self._loop.time() + limit)
                self._transport.receive()
                self._runtime.start()
            return await self._ended
        finally:
            for child in self._children:
                child.cancel()
            await asyncio.gather(*self._children, return_exceptions=True)

    def _child_ended(self, child: "asyncio.Task[None]") -> None:
        self._children.discard(child)
        if not child.cancelled() and (error := child.exception()) is not None:
            self._log.error("a part of the connection failed", exc_info=error)
            self.close(EndReason.HANDLER_ERROR)

    async def _play_out(self) -> None:
        await self._transport.played()
        self.close(EndReason.HANDLER_CLOSED)

    def _set_args(self) -> None:
        """Give the handler the newest inputs, if both are there."""
        if self._handler is None or self._inputs is None:
            return
        try:
            self._handler.set_args(codec.decode(self._inputs))
        except ValueError as error:
            self._log.warning("inputs are not usable: %s", error)

    def _refuse(self, error: RayRTCError) -> None:
        self._log.info("offer refused: %s", error)
        self._answer.set_exception(error)
        self._answer.exception()  # it is known here, whether or not anybody still waits for it

    async def _release(self, reason: EndReason) -> None:
        """Give back everything, whatever the connection has got so far."""
        answered = self._answer.done() and self._answer.exception() is None
        if not self._answer.done():
            self._refuse(Refused("the connection could not be set up in time"))
        was_connected = self.state in (State.CONNECTED, State.PLAYING_OUT)
        self.reason = reason
        if not was_connected:
            self._connecting.fail(reason)
            self._connecting.end()
        self._move(State.CLOSED)
        self.close(reason)
        try:
            if was_connected and reason not in BY_CLIENT:
                self._channel.send(create_message("update_connection", "closed"))
                await self._channel.flush(FLUSH_TIMEOUT)
            await self._stop_parts()
        finally:
            ended.labels(*self._labels, reason).inc()
            self._log.info("ended: %s", reason)
            if answered and reason is not EndReason.REFUSED:
                self.end_written = self._outputs.end(self.id, self.session, reason)
            await self._on_end(self, reason)

    async def _stop_parts(self) -> None:
        if self._handler is not None:
            self._handler.unbind()
        stopping = [self._transport.close()]
        if self._runtime is not None:
            stopping.append(self._runtime.stop())
        for result in await asyncio.gather(*stopping, return_exceptions=True):
            if isinstance(result, BaseException):
                self._log.error("a part did not stop cleanly", exc_info=result)
        self._channel.close()

    def _move(self, state: State) -> None:
        """The one place where the state changes."""
        if state not in FOLLOWING[self.state]:
            raise RuntimeError(f"a connection cannot go from {self.state} to {state}")
        connections.labels(*self._labels, self.state).dec()
        if state is not State.CLOSED:
            connections.labels(*self._labels, state).inc()
        transitions.labels(*self._labels, state).inc()
        if state is State.CONNECTED:
            connect_time.labels(*self._labels).observe(self._loop.time() - self._opened)
            self._connecting.end()
        self._log.info("%s -> %s%s", self.state, state, f" ({self.reason})" if self.reason else "")
        self.state = state
