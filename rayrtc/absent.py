"""What FastRTC has and this has not: whoever uses it is told what to do instead."""

_PROCESSES = (
    "connections and their handlers live in the workers' processes. What a route has to tell a "
    "handler goes through stream.set_input(webrtc_id, ...); a handler that must act on it at once "
    "overrides `set_args`"
)

STREAM_ATTRIBUTES = {
    "ui": (
        "there is no Gradio page. `rayrtc dev MODULE:stream` serves a page at /, with a form made "
        "from Stream(inputs=...); or serve a page of your own"
    ),
    "fastphone": (
        "it needs a server of FastRTC's authors. Point a Twilio number to POST /telephone/incoming"
    ),
    "webrtc_component": _PROCESSES,
    "handlers": _PROCESSES,
    "connections": (
        "connections live in the workers' processes. concurrency_limit holds for all of them; "
        "`rayrtc status` and GET /metrics say how many there are"
    ),
    "additional_outputs": "read them with stream.output_stream(webrtc_id)",
}
"""Attributes of a FastRTC `Stream`."""

NAMES = {
    "WebRTC": (
        "it is a Gradio component. Make a Stream(handler, modality=..., mode=...) of what its "
        "`stream` event called; the page is served at / by `rayrtc dev MODULE:stream`"
    ),
}
"""Names of the package `fastrtc`."""


def no_attribute(name: str) -> AttributeError:
    """The error for an attribute that a stream does not have."""
    advice = STREAM_ATTRIBUTES.get(name)
    if advice is None:
        return AttributeError(f"'Stream' object has no attribute {name!r}")
    return AttributeError(f"FastRTC's Stream.{name} is not in rayrtc: {advice} (docs/migrating.md)")


def no_name(name: str) -> Exception:
    """The error for a name that the package does not have."""
    advice = NAMES.get(name)
    if advice is None:
        return AttributeError(f"module 'rayrtc' has no attribute {name!r}")
    # `from rayrtc import` would replace an AttributeError by an ImportError without its text
    return ImportError(f"FastRTC's {name} is not in rayrtc: {advice} (docs/migrating.md)")
