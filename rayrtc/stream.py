"""`Stream`: a handler with its mode, limits and routes, and the way to its connections."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel

from rayrtc.absent import no_attribute
from rayrtc.cluster import codec
from rayrtc.cluster.models import ConnectionState, OutputEntry
from rayrtc.combinations import Modality, Mode, check_handler
from rayrtc.errors import RayRTCError, UnknownConnection
from rayrtc.messages import AdditionalOutputs
from rayrtc.opus import OpusOptions
from rayrtc.settings import get_settings
from rayrtc.video import HandlerType

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response, WebSocket
    from fastapi.params import Depends

    from rayrtc.cluster.client import Cluster

logger = logging.getLogger(__name__)

RTCConfigurationSource = (
    dict[str, Any] | Callable[[], dict[str, Any]] | Callable[[], Awaitable[dict[str, Any]]]
)

CALL_TIMEOUT = 5.0
"""Seconds that a call from a thread waits for the event loop."""
FETCH_TIMEOUT = 10.0
"""Seconds that `fetch_latest_output` waits."""
READER_WAIT = 10.0
"""Seconds that `output_stream` waits for a connection: a page may open its EventSource first, and
comes back every few seconds after the end."""
ID_SHOWN = 128
"""Characters of an id that are logged; no connection's is longer."""
MAX_UNAWAITED = 1024
"""Calls of one process under way at once that nobody awaits; more are refused."""


class UIArgs(TypedDict, total=False):
    """How the page at `/` presents the stream: its title, subtitle and icon.

    What else FastRTC's Gradio page takes is accepted and has no effect.
    """

    title: str
    subtitle: str
    icon: str
    icon_button_color: str
    pulse_color: str
    icon_radius: int
    send_input_on: Literal["submit", "change"]
    hide_title: bool
    full_screen: bool


class Stream:
    """A handler and how clients reach it.

    Args:
        handler: an instance of a handler class, of which each connection runs a `copy()`; for video
            a `VideoStreamHandler` or a function `f(frame, *args)`; in receive mode a generator
            function `f(*args)`, sync or async, for any modality.
        mode: direction of media, seen from the client.
        modality: what flows: video, sound, or both.
        concurrency_limit: connections of this stream over the whole cluster; "default" and None
            mean 1.
        time_limit: seconds from connect to the end of a connection.
        allow_extra_tracks: take offers with further kinds of media; those are not answered.
        rtp_params: members of `RTCRtpSendParameters` that the page sets on what it sends, such as
            `{"degradationPreference": "maintain-framerate"}`.
        track_constraints: `MediaTrackConstraints` for the page's camera and microphone.
        rtc_configuration: `RTCConfiguration` for clients (`GET /rtc-configuration`), or a sync or
            async callable that returns it. `RAYRTC_TURN_URLS` adds TURN servers.
        server_rtc_configuration: `RTCConfiguration` of the workers; none means no STUN, and no TURN
            but `RAYRTC_WORKER_TURN_URL`.
        ui_args: title, subtitle and icon of the page.
        verbose: log where the routes are when the application starts.
        name: unique among the streams of an application; else made from the mount path.
        resources: what a worker of this stream takes of a Ray node, by Ray's names: CPU, GPU (both
            may be fractions) and custom resources, such as `{"GPU": 0.5}`. Streams with the same
            share workers. Unset: `RAYRTC_WORKER_CPUS` and `_GPUS`.
        opus: how the sound that the client gets is coded; the default suits speech.
        inputs: pydantic model of what `POST /input_hook` accepts; its fields in their order are the
            arguments of the handler.
        additional_inputs, additional_outputs, additional_outputs_handler: of FastRTC's Gradio page.
            They have no effect, which the log says once when the application starts.

    Raises:
        TypeError: the handler does not fit the modality and mode.
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        handler: HandlerType,
        *,
        additional_outputs_handler: Callable[..., object] | None = None,
        mode: Mode = "send-receive",
        modality: Modality = "video",
        concurrency_limit: int | Literal["default"] | None = "default",
        time_limit: float | None = None,
        allow_extra_tracks: bool = False,
        rtp_params: dict[str, Any] | None = None,
        rtc_configuration: RTCConfigurationSource | None = None,
        server_rtc_configuration: dict[str, Any] | None = None,
        track_constraints: dict[str, Any] | None = None,
        additional_inputs: Sequence[object] | None = None,
        additional_outputs: Sequence[object] | None = None,
        ui_args: UIArgs | None = None,
        verbose: bool = True,
        name: str | None = None,
        inputs: type[BaseModel] | None = None,
        resources: Mapping[str, float] | None = None,
        opus: OpusOptions | None = None,
    ) -> None:
        check_handler(handler, modality, mode)
        limit = 1 if concurrency_limit in ("default", None) else concurrency_limit
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"concurrency_limit must be 1 or more, got {concurrency_limit!r}")
        if time_limit is not None and time_limit <= 0:
            raise ValueError(f"time_limit must be positive, got {time_limit}")
        if any(amount <= 0 for amount in (resources or {}).values()):
            raise ValueError(f"resources must be positive, got {resources}")
        self.handler = handler
        self.mode: Mode = mode
        self.modality: Modality = modality
        self.concurrency_limit: int = limit
        self.time_limit = time_limit
        self.allow_extra_tracks = allow_extra_tracks
        self.rtp_params = rtp_params
        self.track_constraints = track_constraints
        self.rtc_configuration = rtc_configuration
        self.server_rtc_configuration = server_rtc_configuration
        self.ui_args: UIArgs = ui_args or {}
        self.verbose = verbose
        self.inputs = inputs
        self.resources = dict(resources or {})
        self.opus = opus or OpusOptions()
        self.name = name or ""
        gradio = {
            "additional_inputs": additional_inputs,
            "additional_outputs": additional_outputs,
            "additional_outputs_handler": additional_outputs_handler,
        }
        self.without_effect = [argument for argument, value in gradio.items() if value]
        """Arguments that only FastRTC's page would use."""
        self._cluster: Cluster | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._endpoints: dict[str, Callable[..., Any]] = {}

    if not TYPE_CHECKING:  # a type checker would take any attribute for one that is there

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(name)

    def mount(
        self,
        app: "FastAPI",
        path: str = "",
        tags: list[str] | None = None,
        *,
        dependencies: "Sequence[Depends] | None" = None,
    ) -> None:
        """Add the stream's routes to `app` under `path`; they serve any connection of the cluster.

        Args:
            dependencies: FastAPI's `Depends(...)`, called for each request and each WebSocket's
                handshake; one that raises refuses it. So a stream is protected.

        Raises:
            ValueError: the application has a stream of this name.
        """
        from control_plane.routes import mount_stream  # the HTTP side is needed by servers only

        if not self.name:
            self.name = path.strip("/").replace("/", "-") or "default"
        mount_stream(app, self, path, tags, dependencies)

    def set_endpoints(self, **endpoints: Callable[..., Any]) -> None:
        """Take the endpoints of the stream's routes. Called by the control plane's `mount`."""
        self._endpoints = endpoints

    @property
    def event_handler(self) -> HandlerType:
        """FastRTC's name of `handler`."""
        return self.handler

    @property
    def offer(self) -> "Callable[..., Awaitable[Any]]":
        """The endpoint of `POST /webrtc/offer`, for a further route of the application.

        This and the other endpoints work on applications on which the stream is mounted.

        Raises:
            RuntimeError: the stream is not mounted.
        """
        return self._endpoint("offer")

    @property
    def websocket_offer(self) -> "Callable[[WebSocket], Awaitable[None]]":
        """The endpoint of `WS /websocket/offer`; see `offer`."""
        return self._endpoint("websocket_offer")

    @property
    def telephone_handler(self) -> "Callable[[WebSocket], Awaitable[None]]":
        """The endpoint of `WS /telephone/handler`; see `offer`."""
        return self._endpoint("telephone_handler")

    @property
    def handle_incoming_call(self) -> "Callable[[Request], Awaitable[Response]]":
        """The endpoint of `POST /telephone/incoming`; see `offer`."""
        return self._endpoint("handle_incoming_call")

    def _endpoint(self, name: str) -> Callable[..., Any]:
        if name not in self._endpoints:
            raise RuntimeError("mount the stream on the application before using its endpoints")
        return self._endpoints[name]

    def twiml(self, url: str) -> str:
        """What a telephone call does: TwiML (XML) that sends its audio to `url` (wss).

        Meant to be overridden, for other words or further verbs.
        """
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            "<Response><Say>One moment, please.</Say>"
            f"<Connect><Stream url={quoteattr(url)} /></Connect>"
            "<Say>The call has ended. Goodbye.</Say></Response>"
        )

    def bind(self, cluster: "Cluster", loop: asyncio.AbstractEventLoop) -> None:
        """Give the stream its way to the cluster. Called when a service starts, on `loop`."""
        self._cluster = cluster
        self._loop = loop

    async def unbind(self) -> None:
        """Finish the calls under way and let go of the cluster."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=CALL_TIMEOUT)
        for call in self._calls:
            call.cancel()
        self._cluster = None
        self._loop = None

    async def resolve_rtc_configuration(self) -> dict[str, Any]:
        """The `RTCConfiguration` for a client; a sync callable runs on a thread."""
        source = self.rtc_configuration
        if source is None:
            return {}
        if not callable(source):
            return source
        result: Any
        if inspect.iscoroutinefunction(source):
            result = source()
        else:
            result = await asyncio.to_thread(source)
        return dict(await result if inspect.isawaitable(result) else result)

    def set_input(self, webrtc_id: str, *args: Any) -> Awaitable[None]:
        """Give the handler of a connection new inputs, wherever it runs, for its next call.

        May be awaited or not, on the event loop or on a thread (where it has happened on return).

        Raises:
            ValueError: no arguments.
            TypeError: an argument is no JSON data, bytes, NumPy array or pydantic model.
            TooLarge: more than `RAYRTC_PAYLOAD_MAX` bytes encoded.
            UnknownConnection, ConnectionClosed: when awaited or on a thread.
        """
        if not args:
            raise ValueError("set_input needs at least one argument after the id")
        encoded = codec.encode(args, get_settings().payload_max)
        return self._call(
            webrtc_id,
            lambda cluster: cluster.inputs.set_input(webrtc_id, encoded, stream=self.name),
        )

    def update_connection(
        self, webrtc_id: str, desired_state: Literal["closed"] = "closed"
    ) -> Awaitable[None]:
        """Tell the client that the server closes its connection, and close it.

        Raises:
            ValueError: `desired_state` is not "closed".
            UnknownConnection, ConnectionClosed: when awaited or on a thread.
        """
        if desired_state != "closed":
            raise ValueError(f'desired_state must be "closed", got {desired_state!r}')
        return self._call(
            webrtc_id, lambda cluster: cluster.inputs.close_connection(webrtc_id, stream=self.name)
        )

    async def output_stream(self, webrtc_id: str) -> AsyncIterator[AdditionalOutputs]:
        """The outputs of a connection from its beginning to its end.

        Readers at the same time get all of them each. One that comes after another has left goes
        on where that one was: a page's EventSource which lost its connection, or which comes back
        after the end, gets nothing twice. The outputs of an id that is not known within 10 s are
        empty.
        """
        cluster = self._bound()
        try:
            record = await cluster.reader_arrivals.known(webrtc_id, self.name, READER_WAIT)
        except UnknownConnection:
            # the caller is usually a StreamingResponse whose status has been sent already
            logger.info("outputs of an unknown connection asked for")
            return
        place = last = await cluster.places.take(record)
        heartbeat = get_settings().sse_heartbeat
        try:
            async with aclosing(
                cluster.outputs.read(webrtc_id, place, heartbeat=heartbeat, stream=self.name)
            ) as entries:
                async for entry in entries:
                    if isinstance(entry, OutputEntry):
                        last = entry.id
                        if entry.kind == "output":
                            yield AdditionalOutputs(*codec.decode(entry.args))
            if place == last and record.state is ConnectionState.CLOSED:
                await asyncio.sleep(READER_WAIT)  # nothing comes any more, but the page asks again
        except UnknownConnection:
            logger.info("a connection ended long ago while its outputs were asked for")
        finally:
            # in a task of its own: this reader may be cancelled, as its client has gone
            left = None
            room = len(self._calls) < MAX_UNAWAITED  # else the next reader gets some outputs twice
            if last is not None and self._cluster is cluster and room:
                left = self._call(webrtc_id, lambda cluster: cluster.places.leave(webrtc_id, last))
        if left is not None:  # a client that sees the end may be back at once
            await asyncio.wait([asyncio.ensure_future(left)], timeout=CALL_TIMEOUT)

    async def fetch_latest_output(
        self, webrtc_id: str, timeout: float = FETCH_TIMEOUT
    ) -> AdditionalOutputs:
        """The newest output of a connection; waits `timeout` seconds for a first one.

        Raises:
            UnknownConnection: no connection has this id.
            OutputTimeout: there was none in time.
        """
        entry = await self._bound().outputs.latest(webrtc_id, None, timeout, stream=self.name)
        return AdditionalOutputs(*codec.decode(entry.args))

    def _bound(self) -> "Cluster":
        if self._cluster is None:
            raise RuntimeError(
                "the stream is not connected to a cluster: mount it on the application and start "
                "that with `rayrtc dev`, `rayrtc control-plane` or any ASGI server"
            )
        return self._cluster

    def _call(
        self, webrtc_id: str, operation: Callable[["Cluster"], Coroutine[Any, Any, None]]
    ) -> Awaitable[None]:
        """Run `operation` on the stream's loop: at once as a task there, waited for on a thread."""
        cluster, loop = self._bound(), self._loop
        assert loop is not None
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not loop:
            done = asyncio.run_coroutine_threadsafe(operation(cluster), loop)
            if running is None:
                done.result(CALL_TIMEOUT)
                return _Finished()
            return asyncio.wrap_future(done)
        if len(self._calls) >= MAX_UNAWAITED:
            raise RuntimeError(f"{MAX_UNAWAITED} calls are waiting for Redis")
        task = loop.create_task(operation(cluster))
        self._calls.add(task)
        task.add_done_callback(partial(self._finished, webrtc_id))
        return task

    def _finished(self, webrtc_id: str, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # an awaiting caller gets it too; one that does not await must not lose it silently
            level = logging.INFO if isinstance(error, RayRTCError) else logging.WARNING
            fields = {"connection_id": webrtc_id[:ID_SHOWN], "stream": self.name}
            logger.log(level, "not delivered: %s", error, extra=fields)


class _Finished:
    """The awaitable of a call that has happened."""

    def __await__(self) -> Any:
        return
        yield
