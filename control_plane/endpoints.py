"""What the routes of a stream do."""

import asyncio
import logging
import time
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
from control_plane.limits import EVENTS_WAIT, LATEST_TIMEOUT_MAX, while_connected
from control_plane.replica import Replica
from control_plane.resume_token import HEADER
from control_plane.sse import CURSOR, EventStream, Form, events, plain
from rayrtc.cluster import codec
from rayrtc.cluster.models import ConnectionId, ConnectionState
from rayrtc.cluster.redis import UNREACHABLE
from rayrtc.errors import ICEServersUnavailable, NoWorkerAvailable, RayRTCError
from rayrtc.stream import Stream

logger = logging.getLogger(__name__)

RTC_CONFIGURATION_TIMEOUT = 10.0
"""Seconds that a stream's callable may take for its configuration."""

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

    async def offer(
        self,
        body: Annotated[Offer | IceCandidate, Body(discriminator="type")],
        request: Request,
        response: Response,
        resume_token: ResumeToken = "",
    ) -> Answer | Success:
        """Answer an offer, or take a remote ICE candidate."""
        if isinstance(body, IceCandidate):
            await while_connected(request, self._candidate(body))
            return Success()
        request_id = getattr(request.state, "request_id", "")
        answer, token = await while_connected(request, self._offer(body, request_id, resume_token))
        response.headers[HEADER] = token
        return answer

    async def _offer(self, body: Offer, request_id: str, token: str) -> tuple[Answer, str]:
        """The answer, and the token with which the connection can be taken over."""
        metrics, name = self._replica.metrics, self._stream.name
        started = time.monotonic()
        outcome = "cancelled"
        try:
            services = self._replica.services
            tokens = services.resume_tokens
            taken = await services.assignment.offer(
                name,
                self._stream.concurrency_limit,
                body.webrtc_id,
                body.sdp,
                request_id,
                tokens.session(token, name, body.webrtc_id),
            )
            outcome = "resumed" if taken.resumed else "answered"
            return Answer(sdp=taken.answer.sdp), tokens.make(name, body.webrtc_id, taken.session)
        except RayRTCError as error:
            outcome = error.code
            logger.info(
                "offer refused: %s",
                error,
                extra={"connection_id": body.webrtc_id, "stream": name, "request_id": request_id},
            )
            raise
        except UNREACHABLE:
            outcome = NoWorkerAvailable.code
            raise
        finally:
            metrics.offers.labels(name, outcome).inc()
            metrics.offer_seconds.labels(name).observe(time.monotonic() - started)

    async def _candidate(self, body: IceCandidate) -> None:
        candidate = body.candidate.model_dump() if body.candidate else None
        if candidate is not None and not candidate["candidate"]:
            candidate = None  # both mean the end of candidates (RFC 8838, 8.2)
        outcome = "cancelled"
        try:
            await self._replica.services.candidates.forward(
                self._stream.name, body.webrtc_id, candidate
            )
            outcome = "taken"
        except RayRTCError as error:
            outcome = error.code
            raise
        except UNREACHABLE:
            outcome = NoWorkerAvailable.code
            raise
        finally:
            self._replica.metrics.candidates.labels(outcome).inc()

    def input_hook(self, model: type[BaseModel]) -> Callable[..., Any]:
        """The endpoint that takes inputs in the form of `model`."""
        names = argument_names(model) if self._stream.inputs else None

        async def input_hook(body: BaseModel) -> Success:
            """Give the handler of a connection new inputs; it has them on its next call."""
            values = vars(body)
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
            events(entries, first, cursor, form, self._replica.metrics), services.readers, form
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

    async def rtc_configuration(self) -> dict[str, Any]:
        """The `RTCConfiguration` for the client's peer connection."""
        try:
            async with asyncio.timeout(RTC_CONFIGURATION_TIMEOUT):
                configuration = await self._stream.resolve_rtc_configuration()
            return {name: codec.to_json(value) for name, value in configuration.items()}
        except Exception as error:
            # it is the stream author's callable: anything may be raised
            logger.exception("rtc_configuration of stream %s failed", self._stream.name)
            raise ICEServersUnavailable from error
