"""A handler file written for FastRTC works after its import line is changed, or says why not."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import rayrtc
from control_plane.app import create_app
from control_plane.replica import replica_of
from rayrtc import Stream
from rayrtc.settings import Settings
from tests.rayrtc.test_combinations import Audio


def test_arguments_of_the_gradio_page_are_taken() -> None:
    """Most published handler files give them; their handlers need none of it."""
    slider: Any = object()
    stream = Stream(
        Audio(),
        modality="audio",
        additional_inputs=[slider],
        additional_outputs=[slider],
        additional_outputs_handler=lambda old, new: new,
        ui_args={"title": "Call", "pulse_color": "red", "icon_radius": 0},
    )
    assert stream.without_effect == [
        "additional_inputs",
        "additional_outputs",
        "additional_outputs_handler",
    ]
    assert not Stream(Audio(), modality="audio", additional_outputs=None).without_effect


async def test_the_log_says_what_has_no_effect(
    caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    app = FastAPI()
    Stream(Audio(), modality="audio", additional_inputs=[1]).mount(app)
    Stream(Audio(), modality="audio").mount(app, "/plain")
    with caplog.at_level(logging.WARNING, logger="control_plane"):
        replica = replica_of(app)
        replica.settings = Settings(redis_url=redis_url, cluster_secret="a secret of the test")
        async with replica.run():
            pass
    (record,) = caplog.records
    assert "stream default: additional_inputs of FastRTC's Gradio page" in record.getMessage()


async def page_of(stream: Stream) -> tuple[httpx.AsyncClient, httpx.Response]:
    transport = httpx.ASGITransport(create_app(stream))
    client = httpx.AsyncClient(transport=transport, base_url="http://test")
    return client, await client.get("/")


async def test_the_icon_is_an_address_or_a_file(tmp_path: Path) -> None:
    """As in FastRTC's `ui_args`; the page's policy would not let it load from anywhere."""
    address = "https://pictures.example:8443/icon.png"
    _, page = await page_of(Stream(Audio(), modality="audio", ui_args={"icon": address}))
    policy = page.headers["content-security-policy"]
    assert "img-src 'self' data: https://pictures.example:8443;" in policy
    file = tmp_path / "icon.svg"
    file.write_text("<svg/>")
    client, page = await page_of(Stream(Audio(), modality="audio", ui_args={"icon": str(file)}))
    assert '"icon": "./icon"' in page.text
    assert "img-src 'self' data:;" in page.headers["content-security-policy"]
    icon = await client.get("/icon")
    assert (icon.text, icon.headers["content-type"]) == ("<svg/>", "image/svg+xml")
    client, page = await page_of(Stream(Audio(), modality="audio", ui_args={"icon": "E"}))
    assert '"icon": "E"' in page.text
    assert (await client.get("/icon")).status_code == 404


async def test_an_application_started_as_before_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`uvicorn app:app` is what FastRTC's users type; there is neither Redis nor a worker then."""
    monkeypatch.delenv("RAYRTC_CLUSTER_SECRET", raising=False)
    app = FastAPI()
    Stream(Audio(), modality="audio").mount(app)
    replica = replica_of(app)
    replica.settings = Settings()
    with pytest.raises(ValueError, match="rayrtc dev MODULE:ATTRIBUTE"):
        async with replica.run():
            pass


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ui", "rayrtc dev MODULE:stream"),
        ("webrtc_component", "set_args"),
        ("handlers", "set_args"),
        ("connections", "rayrtc status"),
        ("fastphone", "Twilio"),
    ],
)
def test_what_a_stream_has_not_says_what_to_do(name: str, advice: str) -> None:
    stream = Stream(Audio(), modality="audio")
    with pytest.raises(AttributeError, match=advice):
        getattr(stream, name)
    setattr(stream, name, "anything")  # `stream.ui = demo` harms nobody
    assert getattr(stream, name) == "anything"


def test_what_the_package_has_not_says_what_to_do() -> None:
    with pytest.raises(ImportError, match="Gradio component"):
        from rayrtc import WebRTC  # type: ignore[attr-defined] # noqa: F401
    with pytest.raises(ImportError, match="cannot import name"):
        from rayrtc import nonsense  # type: ignore[attr-defined] # noqa: F401
    assert not hasattr(rayrtc, "nonsense")
