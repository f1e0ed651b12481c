"""What the routes of a stream do."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, WrapValidator

from control_plane.bodies import (
    Answer,
    IceCandidate,
    Offer,
    Output,
    Success,
    argument_names,
    few_errors,
)
from control_plane.ice_servers import client_configuration
from control_plane.limits import EVENTS_WAIT, LATEST_TIMEOUT_MAX, while_connected
from control_plane.replica import Replica
from control_plane.resume_token import HEADER
from control_plane.signalling import Signalling
from control_plane.sse import CURSOR, EventStream, Form, events, plain
from rayrtc import log_fields
from rayrtc.cluster import codec
from rayrtc.cluster.models import ConnectionId, ConnectionState
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import NoWorkerAvailable, RayRTCError
from rayrtc.stream import Stream

WebRTCId = Annotated[ConnectionId, Query()]
Cursor = Annotated[str, Query(pattern=CURSOR, description="Resume after this event id.")]
ResumeToken = Annotated[
    str,
    Header(
        alias=HEADER,
        description="Of the last answer to an offer of this id: if that connection is still there, "
        "this one takes its place. Anything else is as none.",
    ),
]
LastEventId = Annotated[str, Header(alias="Last-Event-ID", pattern=CURSOR)]


class Endpoints:
    """The endpoints of one stream."""

    def __init__(self, replica: Replica, stream: Stream) -> None:
        self._replica = replica
        self._stream = stream
        self._signalling = Signalling(replica, stream)

    async def offer(
        self,
        body: Annotated[Offer | IceCandidate, Body(discriminator="type")],
        request: Request,
        response: Response,
        resume_token: ResumeToken = "",
    ) -> Answer | Success:
        """Answer an offer, or take a remote ICE candidate."""
        if isinstance(body, IceCandidate):
            candidate = body.candidate.model_dump() if body.candidate else None
            await while_connected(request, self._signalling.candidate(body.webrtc_id, candidate))
            return Success()
        services = self._replica.services
        tokens, name = services.resume_tokens, self._stream.name
        with self._signalling.counting(body.webrtc_id) as count:
            resumed = tokens.session(resume_token, name, body.webrtc_id)
            offering = self._signalling.offer(body.webrtc_id, body.sdp, resumed)
            taken = await while_connected(request, offering)
            count.outcome = "resumed" if taken.resumed else "answered"
        response.headers[HEADER] = tokens.make(name, body.webrtc_id, taken.session)
        return Answer(sdp=taken.answer.sdp)

    def input_hook(self, model: type[BaseModel]) -> Callable[..., Any]:
        """The endpoint that takes inputs in the form of `model`."""
        names = argument_names(model) if self._stream.inputs else None

        async def input_hook(body: BaseModel) -> Success:
            """Give the handler of a connection new inputs; it has them on its next call."""
            values = vars(body)
            log_fields.add(connection_id=values["webrtc_id"], stream=self._stream.name)
            outcome = "invalid"
            try:
                if names is None:
                    encoded = self._encode(values["inputs"])
                else:
                    encoded = self._encode_fields(body, names)
                await self._replica.services.cluster.inputs.set_input(
                    values["webrtc_id"], encoded, stream=self._stream.name
                )
                outcome = "taken"
            except RayRTCError as error:
                outcome = error.code
                raise
            except UNREACHABLE:
                outcome = NoWorkerAvailable.code
                raise
            finally:
                self._replica.metrics.inputs.labels(self._stream.name, outcome).inc()
            return Success()

        input_hook.__annotations__["body"] = Annotated[model, WrapValidator(few_errors)]
        return input_hook

    def _encode_fields(self, body: BaseModel, names: list[str]) -> str:
        values = [getattr(body, name) for name in names]
        try:
            return codec.encode(values, self._replica.services.settings.payload_max)
        except TypeError:
            # a date, a set, ...: the handler gets its JSON form
            dumped = body.model_dump(mode="json", include=set(names))
            return self._encode([dumped[name] for name in names])

    def _encode(self, args: list[Any]) -> str:
        try:
            return codec.encode(args, self._replica.services.settings.payload_max)
        except (TypeError, ValueError) as error:
            raise RequestValidationError(
                [{"type": "value_error", "loc": ("body",), "msg": str(error)}]
            ) from error

    async def updates(
        self,
        webrtc_id: WebRTCId,
        last_event_id: Cursor = "",
        lastEventId: Cursor = "",
        header: LastEventId = "",
    ) -> Response:
        """The first argument of each output, as Server-Sent Events."""
        return await self._events("updates", webrtc_id, header, last_event_id, lastEventId)

    async def outputs(
        self,
        webrtc_id: WebRTCId,
        last_event_id: Cursor = "",
        lastEventId: Cursor = "",
        header: LastEventId = "",
    ) -> Response:
        """All arguments of each output, as Server-Sent Events named `output`."""
        return await self._events("outputs", webrtc_id, header, last_event_id, lastEventId)

    async def _events(self, form: Form, connection_id: str, *cursors: str) -> Response:
        log_fields.add(connection_id=connection_id, stream=self._stream.name)
        cursor = next(filter(None, cursors), None)  # a browser's header is newer than its URL
        services = self._replica.services
        services.readers.check()
        # an EventSource that is told 404 gives up, so it must not be for having come first
        record = await services.cluster.reader_arrivals.known(
            connection_id, self._stream.name, 0 if cursor else EVENTS_WAIT
        )
        entries = services.cluster.outputs.read(
            connection_id,
            cursor,
            heartbeat=services.settings.sse_heartbeat,
            stream=self._stream.name,
        )
        first = None
        if cursor and record.state is ConnectionState.CLOSED:
            first = await anext(entries, None)
            if first is None:
                # the client has the end: this answer makes an EventSource stay away
                return Response(status_code=204)
        return EventStream(
            events(entries, first, cursor, form, self._replica.metrics, services.cluster.time),
            services.readers,
            form,
        )

    async def latest(
        self,
        request: Request,
        webrtc_id: WebRTCId,
        timeout: Annotated[
            float, Query(ge=0, le=LATEST_TIMEOUT_MAX, allow_inf_nan=False, description="Seconds")
        ] = 10.0,
        after: Annotated[
            str, Query(pattern=CURSOR, description="Only an output newer than this id.")
        ] = "",
    ) -> Output:
        """The newest output; waits for one when there is none."""
        services = self._replica.services
        entry = await while_connected(
            request,
            services.readers.until_stopping(
                services.cluster.outputs.latest(
                    webrtc_id, after or None, timeout, stream=self._stream.name
                )
            ),
        )
        return Output(id=entry.id, args=plain(entry))

    async def rtc_configuration(self, response: Response) -> dict[str, Any]:
        """The `RTCConfiguration` for the client's peer connection."""
        response.headers["Cache-Control"] = "no-store"  # it may hold credentials
        return await client_configuration(self._stream, self._replica.services.settings)
