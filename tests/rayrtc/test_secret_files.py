"""Secrets that are mounted as files reach the services, and nothing else of them is believed."""

from pathlib import Path

import pytest
from pydantic_settings import SettingsError

from rayrtc.secret_files import FROM_FILES
from rayrtc.settings import Settings

SECRET = "a secret for the tests only"


def test_each_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FROM_FILES:
        path = tmp_path / name
        path.write_text("redis://redis/1\n" if name == "redis_url" else f"{SECRET} {name}\r\n")
        monkeypatch.setenv(f"RAYRTC_{name.upper()}_FILE", str(path))
    settings = Settings()
    assert settings.secret() == f"{SECRET} cluster_secret"
    assert settings.redis_url == "redis://redis/1"
    assert settings.turn_secret is not None
    assert settings.turn_secret.get_secret_value() == f"{SECRET} turn_secret"
    assert settings.environment()["RAYRTC_TWILIO_AUTH_TOKEN"] == f"{SECRET} twilio_auth_token"


def test_a_value_goes_before_its_file_which_need_not_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker is given the values of the service, in an environment that names the files."""
    monkeypatch.setenv("RAYRTC_CLUSTER_SECRET_FILE", "/nowhere/secret")
    monkeypatch.setenv("RAYRTC_CLUSTER_SECRET", SECRET)
    assert Settings().secret() == SECRET
    monkeypatch.delenv("RAYRTC_CLUSTER_SECRET")
    with pytest.raises(SettingsError, match="RAYRTC_CLUSTER_SECRET_FILE: /nowhere/secret cannot"):
        Settings()
    monkeypatch.setenv("RAYRTC_CLUSTER_SECRET_FILE", "")
    assert Settings().cluster_secret is None


def test_a_secret_in_a_file_is_held_to_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("short\n")
    monkeypatch.setenv("RAYRTC_CLUSTER_SECRET_FILE", str(path))
    with pytest.raises(ValueError, match="at least 16"):
        Settings()
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(SettingsError, match="no text"):
        Settings()


def test_other_options_have_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").write_text("9000")
    monkeypatch.setenv("RAYRTC_PORT_FILE", str(tmp_path / "port"))
    assert Settings().port == 8000
