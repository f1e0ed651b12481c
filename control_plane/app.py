"""What a replica serves: an application with its mounted streams, or one stream with a page."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from control_plane.replica import replica_of
from rayrtc import __version__
from rayrtc.settings import Settings
from rayrtc.stream import Stream

STATIC = Path(__file__).parent / "static"
PLACEHOLDER = "__STREAM_CONFIG__"
"""Where `index.html` takes the description of its stream."""
PICTURES = (".gif", ".ico", ".jpeg", ".jpg", ".png", ".svg", ".webp")
"""Names of files that an icon may be."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:{icon_origin}",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)


def create_app(target: Stream | FastAPI, settings: Settings | None = None) -> FastAPI:
    """The application to serve for `target`.

    Args:
        target: an application with mounted streams, which is returned as it is, or a stream, which
            gets an application with a page at `/`.
        settings: instead of those of the environment.

    Raises:
        ValueError: the stream cannot be mounted.
    """
    if isinstance(target, Stream):
        app = FastAPI(title=target.ui_args.get("title") or "rayrtc", version=__version__)
        target.mount(app)
        _add_page(app, target)
    else:
        app = target
    if settings is not None:
        replica_of(app).settings = settings
    return app


def _add_page(app: FastAPI, stream: Stream) -> None:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    description = describe(stream)
    icon = stream.ui_args.get("icon") or ""
    origin = ""
    if icon.startswith(("http://", "https://")):
        origin = f" {urlsplit(icon).scheme}://{urlsplit(icon).netloc}"
    elif icon.lower().endswith(PICTURES) and Path(icon).is_file():
        description["icon"] = "./icon"
        app.add_api_route("/icon", lambda: FileResponse(icon), include_in_schema=False)
    page = html.replace(PLACEHOLDER, embed(description))
    policy = CONTENT_SECURITY_POLICY.format(icon_origin=origin)

    async def index() -> HTMLResponse:
        return HTMLResponse(
            page,
            headers={
                "Content-Security-Policy": policy,
                "Cache-Control": "no-cache",
                "X-Content-Type-Options": "nosniff",
            },
        )

    app.add_api_route("/", index, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def describe(stream: Stream, prefix: str = "") -> dict[str, Any]:
    """What the page has to know of its stream; `prefix` is the path of the stream's routes."""
    schema = None
    if stream.inputs is not None:
        schema = stream.inputs.model_json_schema()
        schema.get("properties", {}).pop("webrtc_id", None)  # the page knows it, nobody types it
        schema["required"] = [name for name in schema.get("required", []) if name != "webrtc_id"]
    ui_args = stream.ui_args
    return {
        "name": stream.name,
        "title": ui_args.get("title"),
        "subtitle": ui_args.get("subtitle"),
        "icon": ui_args.get("icon"),
        "modality": stream.modality,
        "mode": stream.mode,
        "prefix": prefix,
        "inputs_schema": schema,
        "track_constraints": stream.track_constraints,
        "rtp_params": stream.rtp_params,
    }


def embed(value: Any) -> str:
    """JSON that can stand inside of a script element: nothing in it ends the element."""
    text = json.dumps(value)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
