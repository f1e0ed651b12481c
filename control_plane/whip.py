"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): a stream for clients that speak HTTP and SDP.

A session is a connection like any other; its id is made here and names it in the stream's other
routes. All that a later request needs is in that id and in the registry, so any replica serves it.
"""

import asyncio
import hashlib
import logging
import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request, Response

from control_plane.bodies import Success
from control_plane.cross_origin import preflight
from control_plane.ice_servers import client_configuration
from control_plane.limits import SDP_MAX, BoundedRequest, while_connected
from control_plane.links import ice_server_links
from control_plane.replica import Replica
from control_plane.sdpfrag import MEDIA_TYPE as SDPFRAG
from control_plane.sdpfrag import Fragment, parse_fragment
from control_plane.signalling import Signalling
from control_plane.whip_offer import Direction, credentials, mux_only, one_way
from control_plane.worker_client import WorkerUnavailable
from rayrtc.cluster.models import ConnectionRecord, ConnectionState, EndReason
from rayrtc.combinations import Mode
from rayrtc.errors import (
    ConnectionClosed,
    ICERestartUnsupported,
    InvalidCandidate,
    MethodNotAllowed,
    NotAcceptable,
    NoWorkerAvailable,
    PreconditionFailed,
    PreconditionRequired,
    UnknownConnection,
    UnsupportedMediaType,
    UnsupportedMode,
)
from rayrtc.stream import Stream

logger = logging.getLogger(__name__)

SDP = "application/sdp"
ENDPOINT_METHODS = "GET, HEAD, OPTIONS, POST"
SESSION_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
"""All that a request may come with; those that a resource lacks are answered with 405."""

_SESSION = re.compile(r"(whip|whep)-([0-9a-f]{32})-([0-9a-f]{16})")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"|\*')
_QUALITY_ZERO = re.compile(r"q=0(\.0{0,3})?")


@dataclass(frozen=True)
class Protocol:
    """One of the two: they differ in who sends media."""

    name: str
    direction: Direction
    """Of the client's media."""
    mode: Mode
    """Of a stream that does nothing else."""


WHIP = Protocol("whip", "sendonly", "send")
WHEP = Protocol("whep", "recvonly", "receive")


class SDPAnswer(Response):
    """A session description."""

    media_type = SDP


class SessionEndpoints:
    """The endpoints of one stream for one of the protocols."""

    def __init__(self, replica: Replica, stream: Stream, protocol: Protocol) -> None:
        self._replica = replica
        self._stream = stream
        self._protocol = protocol
        self._signalling = Signalling(replica, stream)

    @property
    def supported(self) -> bool:
        """Whether the stream's media flows in the protocol's direction."""
        return self._stream.mode in (self._protocol.mode, "send-receive")

    async def create(self, request: Request) -> Response:
        """Answer an offer: the new session is at `Location`."""
        if _media_type(request) != SDP:
            raise UnsupportedMediaType(SDP, "Accept-Post")
        if not _accepts_sdp(request):
            raise NotAcceptable(f"the answer is {SDP}")
        return await while_connected(request, self._create(request, await _text(request)))

    async def _create(self, request: Request, sdp: str) -> Response:
        random = secrets.token_hex(16)
        tag = _tag(random, *credentials(sdp))
        session = f"{self._protocol.name}-{random}-{tag}"
        with self._signalling.counting(session):
            offer = one_way(sdp, self._protocol.direction)
            settings = self._replica.services.settings
            links = ice_server_links(await client_configuration(self._stream, settings))
            taken = await self._signalling.offer(session, offer)
        response = SDPAnswer(
            mux_only(taken.answer.sdp),
            201,
            {
                "Location": f"{quote(request.url.path, safe='/%')}/{session}",
                "ETag": f'"{tag}"',
                "Accept-Patch": SDPFRAG,
            },
        )
        for link in links:
            response.headers.append("Link", link)
        return response

    async def describe(self) -> Response:
        """Nothing but the media type that is to be posted here."""
        return SDPAnswer()

    async def describe_session(self, session: str) -> Response:
        """Nothing: a session has no representation."""
        await self._find(session)
        return Response(status_code=204)

    async def patch(self, session: str, request: Request) -> Response:
        """Take remote ICE candidates. `If-Match` is the `ETag` of the answer to the offer."""
        await self._find(session)
        if _media_type(request) != SDPFRAG:
            raise UnsupportedMediaType(SDPFRAG, "Accept-Patch")
        text = await _text(request)
        _, random, tag = session.split("-")
        _check_precondition(request, tag)
        fragment = parse_fragment(text)
        if fragment.credentials and not any(
            _tag(random, *pair) == tag for pair in fragment.credentials
        ):
            raise ICERestartUnsupported("ICE cannot be restarted: make a new session")
        try:
            async with asyncio.timeout(self._replica.services.settings.worker_timeout):
                await while_connected(request, self._add(session, fragment))
        except TimeoutError as error:
            raise NoWorkerAvailable("the worker of the connection does not answer") from error
        return Response(status_code=204)

    async def _add(self, session: str, fragment: Fragment) -> None:
        for candidate in fragment.candidates:
            try:
                await self._signalling.candidate(session, candidate)
            except InvalidCandidate as error:
                # one of a kind that cannot be used does no harm to the others (RFC 9725, 4.3.2)
                logger.info("candidate not used: %s", error, extra={"connection_id": session})
        if fragment.complete:
            await self._signalling.candidate(session, None)

    async def delete(self, session: str) -> Success:
        """End the session. Its slot is free when this is answered, if its handler ends in time."""
        record = await self._find(session)
        services = self._replica.services
        try:
            await services.workers.release(
                record.address,
                session,
                record.session,
                EndReason.CLIENT_CLOSED,
                services.settings.worker_timeout,
            )
        except WorkerUnavailable as error:
            raise NoWorkerAvailable("the worker of the connection does not answer") from error
        return Success()

    async def options(self, request: Request) -> Response:
        """What pages of other origins, and clients that look first, have to know."""
        return Response(
            headers={**preflight(request, ENDPOINT_METHODS), "Accept-Post": SDP},
        )

    async def session_options(self, request: Request) -> Response:
        """The same for a session."""
        return Response(
            headers={**preflight(request, SESSION_METHODS), "Accept-Patch": SDPFRAG},
        )

    async def not_allowed(self) -> Response:
        """Refuse another method."""
        raise MethodNotAllowed(ENDPOINT_METHODS)

    async def session_not_allowed(self) -> Response:
        """Refuse another method of a session."""
        raise MethodNotAllowed(SESSION_METHODS)

    async def unsupported(self) -> Response:
        """Refuse everything: such a stream has no endpoint for this protocol."""
        raise UnsupportedMode(
            f"the stream's mode is {self._stream.mode}, {self._protocol.name.upper()} needs "
            f"{self._protocol.mode} or send-receive"
        )

    async def _find(self, session: str) -> ConnectionRecord:
        """The record of a session of this endpoint that has not ended."""
        match = _SESSION.fullmatch(session)
        if match is None or match[1] != self._protocol.name:
            raise UnknownConnection
        cluster = self._replica.services.cluster
        record = await cluster.registry.known(session, self._stream.name)
        if record.state is ConnectionState.CLOSED:
            raise ConnectionClosed(record.reason.value if record.reason else "")
        return record


def _tag(random: str, ufrag: str, password: str) -> str:
    """Names an ICE session: a fragment with other credentials is for another one."""
    return hashlib.sha256(f"{random}:{ufrag}:{password}".encode()).hexdigest()[:16]


def _check_precondition(request: Request, tag: str) -> None:
    """RFC 9725, 4.3.1: which ICE session a fragment is for has to be said. `*` means any.

    Its own example has the asterisk in quotes.

    Raises:
        PreconditionRequired: it is not said.
        PreconditionFailed: it is for another one.
    """
    given = request.headers.getlist("if-match")
    if not given:
        raise PreconditionRequired("If-Match must be the ETag of the answer to the offer")
    tags = _ENTITY_TAG.findall(", ".join(given))
    if not {f'"{tag}"', "*", '"*"'} & set(tags):
        raise PreconditionFailed("If-Match is not the ETag of the answer to the offer")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _accepts_sdp(request: Request) -> bool:
    """Whether `Accept` has room for an answer (RFC 9110, 12.5.1): the most exact range counts."""
    accepted: dict[str, bool] = {}
    for item in ", ".join(request.headers.getlist("accept")).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        accepted[name] = not any(_QUALITY_ZERO.fullmatch(part) for part in parameters)
    accepted.pop("", None)
    for name in (SDP, "application/*", "*/*"):
        if name in accepted:
            return accepted[name]
    return not accepted


async def _text(request: Request) -> str:
    """The body, within the size of a session description, which is UTF-8 where it matters."""
    body = BoundedRequest(request.scope, request.receive)
    await body.load(SDP_MAX)
    return (await body.body()).decode("utf-8", "replace")
