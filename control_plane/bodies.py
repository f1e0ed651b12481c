"""The JSON bodies of the routes, as `/openapi.json` documents them."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    create_model,
    field_validator,
)
from pydantic_core import PydanticCustomError

from control_plane.limits import CANDIDATE_MAX, ERRORS_MAX, SDP_MAX
from rayrtc.cluster.models import ConnectionId

Label = Annotated[str, StringConstraints(max_length=256)]
"""A media id or ICE user name fragment (RFC 8839, 5.4: at most 256 characters)."""


class Body(BaseModel):
    """Base of the bodies: JSON types are taken as they are, unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Offer(Body):
    """An offer, with all candidates or before them (RFC 9429)."""

    type: Literal["offer"]
    webrtc_id: ConnectionId
    sdp: Annotated[str, StringConstraints(min_length=1, max_length=SDP_MAX)]

    @field_validator("sdp")
    @classmethod
    def _bytes(cls, sdp: str) -> str:
        if len(sdp.encode()) > SDP_MAX:
            raise ValueError(f"at most {SDP_MAX} bytes")
        return sdp


def integral(value: Any) -> Any:
    """A JSON number without a fraction is an integer, however it is written: 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Candidate(Body):
    """`RTCIceCandidate.toJSON()`; an empty `candidate` is the end of candidates."""

    candidate: Annotated[str, StringConstraints(max_length=CANDIDATE_MAX)]
    sdpMid: Label | None = None
    sdpMLineIndex: Annotated[
        Annotated[int, BeforeValidator(integral), Field(ge=0, le=65535)] | None,
        WithJsonSchema({"type": ["integer", "null"], "minimum": 0, "maximum": 65535}),
    ] = None
    usernameFragment: Label | None = None


class IceCandidate(Body):
    """One remote candidate of a connection; null or "" is the end of candidates."""

    type: Literal["ice-candidate"]
    webrtc_id: ConnectionId
    candidate: Candidate | Literal[""] | None


class Success(BaseModel):
    """Done."""

    status: Literal["success"] = "success"


class Answer(BaseModel):
    """The answer to an offer."""

    sdp: str
    type: Literal["answer"] = "answer"


class Output(BaseModel):
    """One output of a connection: the plain JSON view of its arguments."""

    id: str
    args: list[Any]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """New connections can be served."""

    status: Literal["ready"] = "ready"
    workers: int


class FailureMeta(BaseModel):
    """`error` is one of the contract's codes; some have further members."""

    model_config = ConfigDict(extra="allow")

    error: str
    detail: str | None = None
    limit: int | None = None


class Failure(BaseModel):
    """The body of every failure but FastAPI's 422."""

    status: Literal["failed"] = "failed"
    meta: FailureMeta


class Arguments(Body):
    """Inputs of a stream without a model: the handler's arguments in their order."""

    webrtc_id: ConnectionId
    inputs: Annotated[list[Any], Field(min_length=1)]


def few_errors(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Tell the count instead of the errors when there are many.

    To list 100,000 wrong values would hold up the event loop for seconds.
    """
    try:
        return validate(value)
    except ValidationError as error:
        if (count := error.error_count()) <= ERRORS_MAX:
            raise
        raise PydanticCustomError(
            "too_many_errors", "{count} values are not valid", {"count": count}
        ) from None


def inputs_body(name: str, inputs: type[BaseModel] | None) -> type[BaseModel]:
    """The body of `/input_hook`: `webrtc_id` beside the fields of the stream's model.

    Raises:
        ValueError: the model has no field of its own.
    """
    if inputs is None:
        return Arguments
    if not argument_names(inputs):
        raise ValueError(f"{inputs.__name__} has no fields for the handler's arguments")
    title = re.sub(r"\W", "_", name)
    return create_model(
        f"{inputs.__name__}_{title}", __base__=inputs, webrtc_id=(ConnectionId, ...)
    )


def argument_names(inputs: type[BaseModel]) -> list[str]:
    """The fields that become the handler's arguments, in their order."""
    return [name for name in inputs.model_fields if name != "webrtc_id"]
