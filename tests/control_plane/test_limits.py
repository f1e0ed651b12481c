"""What a request may cost, and what no input of any kind may do: answer 500."""

import asyncio
import json
from typing import Any

import pytest

from control_plane import limits
from tests.control_plane.conftest import SDP, Inputs, Replica, Workers, make_stream

ROUTES = ("/webrtc/offer", "/input_hook")
JSON = {"Content-Type": "application/json"}


async def raw(url: str, head: str, *chunks: bytes, pause: float = 0) -> bytes:
    """What the server answers to these bytes, read until it closes or for 3 s."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.replace("\n", "\r\n").encode())
        answer = asyncio.create_task(reader.read(65536))
        for chunk in chunks:
            if answer.done():
                break
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)
        return await asyncio.wait_for(answer, 3)
    finally:
        writer.close()


@pytest.mark.parametrize("path", ROUTES)
async def test_large_body_is_413_by_its_header(replica: Replica, path: str) -> None:
    api = await replica()
    answer = await raw(
        api.url,
        f"POST {path} HTTP/1.1\nHost: x\nContent-Type: application/json\n"
        "Content-Length: 1048577\n\n",
    )
    assert answer.startswith(b"HTTP/1.1 413")  # before any of it has been sent
    assert b'"too_large"' in answer


@pytest.mark.parametrize("path", ROUTES)
async def test_large_chunked_body_is_413(replica: Replica, path: str) -> None:
    api = await replica()
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = await raw(
        api.url,
        f"POST {path} HTTP/1.1\nHost: x\nContent-Type: application/json\n"
        "Transfer-Encoding: chunked\n\n",
        *[chunk] * 200,
    )
    assert answer.startswith(b"HTTP/1.1 413")


async def test_slow_body_is_408(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_TIMEOUT", 0.3)
    api = await replica()
    answer = await raw(
        api.url,
        "POST /input_hook HTTP/1.1\nHost: x\nContent-Type: application/json\n"
        "Content-Length: 100\n\n",
        *[b"{"] * 10,
        pause=0.1,
    )
    assert answer.startswith(b"HTTP/1.1 408")


async def test_client_that_leaves_in_its_body_is_no_error(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    api = await replica()
    host, _, port = api.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /input_hook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.2)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"sdp": SDP + "a=x\r\n" * 30_000}, 422),
        ({"sdp": "é" * 70_000}, 422),
        ({"sdp": ""}, 422),
        ({"sdp": None}, 422),
        ({"sdp": 1}, 422),
        ({"webrtc_id": "x" * 129}, 422),
        ({"webrtc_id": ""}, 422),
        ({"webrtc_id": "a/b"}, 422),
        ({"webrtc_id": "a\n"}, 422),
        ({"webrtc_id": "a\0"}, 422),
        ({"webrtc_id": 7}, 422),
        ({"type": "answer"}, 422),
        ({"type": None}, 422),
        ({"type": "ice-candidate"}, 422),
        ({"type": "ice-candidate", "candidate": "x"}, 422),
        ({"type": "ice-candidate", "candidate": {}}, 422),
        ({"type": "ice-candidate", "candidate": {"candidate": "x" * 1025}}, 422),
        ({"type": "ice-candidate", "candidate": {"candidate": "x", "sdpMid": "x" * 257}}, 422),
        ({"type": "ice-candidate", "candidate": {"candidate": "x", "sdpMLineIndex": -1}}, 422),
        ({"type": "ice-candidate", "candidate": {"candidate": "x", "sdpMLineIndex": "0"}}, 422),
        ({"type": "ice-candidate", "candidate": {"candidate": "x", "sdpMLineIndex": 1e400}}, 422),
    ],
)
async def test_offer_bodies(replica: Replica, body: dict[str, Any], status: int) -> None:
    api = await replica()
    whole = {"type": "offer", "sdp": SDP, "webrtc_id": "alice", **body}
    async with api.session.post(
        api.url + "/webrtc/offer", data=json.dumps(whole), headers=JSON
    ) as response:
        assert response.status == status
        for error in (await response.json())["detail"]:
            assert set(error) == {"type", "loc", "msg"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"NaN",
        b"\xff\xfe",
        b"\x00",
        b'{"webrtc_id": "alice", "inputs": [NaN]}',
        b'{"webrtc_id": "alice", "inputs": [-Infinity]}',
        b'{"webrtc_id": "alice", "inputs": ["\\ud800"]}',
        b'{"webrtc_id": "alice", "inputs": ["\xed\xa0\x80"]}',
        b'{"webrtc_id": "alice", "\\ud800": 1}',
        b'{"webrtc_id": "alice", "inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"webrtc_id": "alice", "inputs": ' + b'{"a":' * 100_000,
        b'{"webrtc_id": "alice", "inputs": [' + b"1" * 10_000 + b"]}",
        b'{"type": "' + b"x" * 500_000 + b'"}',
        b'{"type": "\\ud800"}',
    ],
)
async def test_json_that_is_none(replica: Replica, workers: Workers, text: bytes) -> None:
    await workers(1)
    api = await replica()
    await api.offer("alice")
    for path in ROUTES:
        async with api.session.post(api.url + path, data=text, headers=JSON) as response:
            assert response.status == 422, await response.text()
            assert len(await response.read()) < 20_000


async def test_numbers_at_their_edges(replica: Replica, workers: Workers) -> None:
    await workers(1)
    api = await replica()
    await api.offer("alice")
    for number in (b"1e999", b"-1e999", b"1e-999", b"123456789012345678901234567890", b"-0.0"):
        body = b'{"webrtc_id": "alice", "inputs": [' + number + b"]}"
        async with api.session.post(api.url + "/input_hook", data=body, headers=JSON) as response:
            assert response.status in (200, 422)


async def test_many_wrong_values_make_a_small_answer(replica: Replica) -> None:
    api = await replica(make_stream(inputs=Inputs))
    body = {"webrtc_id": "alice", "threshold": "x", "words": [1] * 100_000}
    async with api.session.post(api.url + "/input_hook", json=body) as response:
        assert response.status == 422
        (error,) = (await response.json())["detail"]
        assert error["msg"] == "100001 values are not valid"


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "x", "application/"])
async def test_other_content_types(replica: Replica, content_type: str) -> None:
    api = await replica()
    for path in ROUTES:
        async with api.session.post(
            api.url + path, data=b'{"webrtc_id": "a"}', headers={"Content-Type": content_type}
        ) as response:
            assert response.status == 422


async def test_other_methods_and_paths(replica: Replica) -> None:
    api = await replica()
    for path in (*ROUTES, "/updates", "/outputs", "/metrics", "/readyz", "/"):
        async with api.session.delete(api.url + path) as response:
            assert response.status == 405
            assert response.headers["Allow"]
    assert (await api.get("/nothing"))[0] == 404
    assert (await api.get("/static/../app.py"))[0] == 404
    assert (await api.get("/static/%2e%2e/app.py"))[0] == 404
